"""What trainings start from: cohorts, conversions, plans and folds."""


rule phantom:
    output:
        touch(done("phantom-{name}")),
    params:
        lambda w: f"{COHORTS[w.name]['phantom']} {config['phantom']}",
    log:
        f"{WORK}/logs/phantom-{{name}}.log",
    benchmark:
        f"{WORK}/times/phantom-{{name}}.tsv"
    shell:
        LOGGED + "nnunet-igtv phantom {params} --output {WORK}/dicom/{wildcards.name}"


rule convert:
    wildcard_constraints:
        name="|".join(COHORTS),
    input:
        lambda w: [] if "folder" in COHORTS[w.name] else done(f"phantom-{w.name}"),
        # one writer per dataset
        lambda w: done("convert-igtv") if w.name == "test" else [],
    output:
        touch(done("convert-{name}")),
    params:
        source=lambda w: shlex.split(COHORTS[w.name]["source"]),
        studies=lambda w: os.path.expanduser(COHORTS[w.name].get("folder", f"{WORK}/dicom/{w.name}")),
        dataset=lambda w: f"-d {COHORTS[w.name]['dataset']} -n {COHORTS[w.name]['name']}",
    log:
        f"{WORK}/logs/convert-{{name}}.log",
    benchmark:
        f"{WORK}/times/convert-{{name}}.tsv"
    shell:
        LOGGED + "nnunet-igtv convert {params.source:q} {params.studies:q} {params.dataset}"


rule shuffled_labels:
    input:
        lambda w: done(f"convert-{config['shuffled']['of']}"),
    output:
        touch(done("convert-shuffled")),
    params:
        source=lambda w: folder(config["shuffled"]["of"]),
        target=lambda w: folder("shuffled"),
    log:
        f"{WORK}/logs/shuffled_labels.log",
    shell:
        LOGGED + "{SCRIPT}/shuffled_labels.py {params.source} {params.target}"


rule plan:
    """nnU-Net's plans by the first planner, and the data of the configuration 2d."""
    input:
        done("convert-{name}"),
        lambda w: done("convert-test") if w.name == "igtv" and not FOLDS else [],
    output:
        touch(done("plan-{name}")),
    params:
        number=lambda w: cohort(w.name)["dataset"],
        first=config["planners"][0],
    log:
        f"{WORK}/logs/plan-{{name}}.log",
    benchmark:
        f"{WORK}/times/plan-{{name}}.tsv"
    shell:
        LOGGED + "nnUNetv2_plan_and_preprocess -d {params.number} -pl {params.first} -c 2d -np 1 -npfp 1"


rule preprocess:
    """The data of another configuration, by the first planner."""
    input:
        done("plan-{name}"),
    output:
        touch(done("preprocess/{name}/{configuration}")),
    params:
        number=lambda w: cohort(w.name)["dataset"],
        first=config["planners"][0],
    log:
        f"{WORK}/logs/preprocess-{{name}}-{{configuration}}.log",
    benchmark:
        f"{WORK}/times/preprocess-{{name}}-{{configuration}}.tsv"
    shell:
        LOGGED + "nnUNetv2_plan_and_preprocess -d {params.number} -pl {params.first} "
        "-c {wildcards.configuration} -np 1 -npfp 1"


rule planner:
    """The plans of another planner, for the same data."""
    input:
        done("plan-{name}"),
    output:
        touch(done("planner/{name}/{planner}")),
    params:
        number=lambda w: cohort(w.name)["dataset"],
    log:
        f"{WORK}/logs/planner-{{name}}-{{planner}}.log",
    shell:
        LOGGED + "nnUNetv2_plan_experiment -d {params.number} -pl {wildcards.planner}"


rule edit_plans:
    """Plans of this comparison for the same preprocessed data: adding some repeats nothing."""
    input:
        done("plan-{name}"),
        lambda w: [done(f"planner/{w.name}/{planner}") for planner in other_planner(w.plans)],
    output:
        touch(done("plans/{name}/{plans}")),
    params:
        folder=lambda w: folder(w.name, "nnUNet_preprocessed"),
        plans=lambda w: json.dumps({w.plans: config["plans"][w.plans]}),
    log:
        f"{WORK}/logs/plans-{{name}}-{{plans}}.log",
    shell:
        LOGGED + "{SCRIPT}/edit_plans.py {params.folder} {params.plans:q}"


rule split:
    """Training sets by size as folds, or the folds of a cross-validation, before any training starts."""
    input:
        done("plan-igtv"),
    output:
        touch(done("split")),
    params:
        folders=lambda w: f"{folder('igtv')} {folder('igtv', 'nnUNet_preprocessed')}",
        what=(
            f"--folds {SETS}"
            if FOLDS
            else f"--train {' '.join(map(str, SETS.values()))} --validate {config['validation']}"
        ),
        first="" if FOLDS else apart("igtv") + "; ",
    log:
        f"{WORK}/logs/split.log",
    shell:
        LOGGED + "{params.first}{SCRIPT}/splits.py {params.folders} --models {WORK}/models {params.what}"
