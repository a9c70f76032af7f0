# Planning 30,000 jobs, Snakemake 9.27 reads each script and inspects each resource function once a
# job: here it remembers what they said. And a plan is millions of objects that all stay, among which
# Python looks for garbage again and again: here it does so less often. Together a third of the time
# of `snakemake -n`. Reaches into Snakemake; benchmarks/planning.py shows what it is worth.
import gc

import snakemake.common
import snakemake.rules
import snakemake.script

# objects made before the first look, then looks at the young ones before the next look at all
gc.set_threshold(50_000, 50, 100)

params_of = snakemake.common.get_function_params
source_of = snakemake.script.get_source
PARAMS, SOURCES = {}, {}


def remembered_params(function):
    """The parameters of a function, or of the one that a bound method is of."""
    known = getattr(function, "__func__", function)
    if known not in PARAMS:
        PARAMS[known] = params_of(function)
    return PARAMS[known]


def remembered_source(path, sourcecache, basedir=None, wildcards=None, params=None):
    """A rule's script, unless its path depends on the job."""
    key = (str(path), str(basedir))
    if key not in SOURCES or "{" in key[0]:
        SOURCES[key] = source_of(path, sourcecache, basedir, wildcards, params)
    return SOURCES[key]


snakemake.common.get_function_params = remembered_params
snakemake.rules.get_function_params = remembered_params
snakemake.script.get_source = remembered_source
