#!/bin/bash
# What became of a job, in Snakemake's three words.
state=$(sacct --jobs "$1" --format State --noheader --parsable2 2>/dev/null | head -n 1)
case "$state" in
    COMPLETED) echo success ;;
    ""|PENDING|CONFIGURING|RUNNING|COMPLETING|SUSPENDED|REQUEUED*|RESIZING) echo running ;;
    *) echo failed ;;
esac
