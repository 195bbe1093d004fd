#!/bin/bash
# What became of a job, in Snakemake's three words. Without sacct this fails, instead of waiting for ever.
set -euo pipefail
states=$(sacct --jobs "$1" --format State --noheader --parsable2)
state=${states%%$'\n'*}    # of the job itself; its steps follow. Empty: not yet known
case "$state" in
    COMPLETED) echo success ;;
    ""|PENDING|CONFIGURING|RUNNING|COMPLETING|SUSPENDED|REQUEUED*|RESIZING) echo running ;;
    *) echo failed ;;
esac
