# SPDX-License-Identifier: GPL-3.0-or-later
# fish completion for memwatch

set -l commands attach run analyze report doctor help version
set -l fresh "not __fish_seen_subcommand_from $commands"
set -l watches "not __fish_seen_subcommand_from analyze report doctor help version"

function __memwatch_no_child -d 'The program of run has not been named yet'
    set -l words (commandline -opc)
    not contains -- -- $words
end

function __memwatch_child -d 'Completions for the program behind --'
    set -l before (commandline -opc)
    set -e before[1..(contains -i -- -- $before)]
    complete -C (string join ' ' -- (string escape -- $before) (commandline -ct))
end

complete -c memwatch -f
complete -c memwatch -n $fresh -a attach -d 'watch a running process'
complete -c memwatch -n $fresh -a run -d 'run a program and watch it from exec to exit'
complete -c memwatch -n $fresh -a analyze -d 'verdicts on recorded series'
complete -c memwatch -n $fresh -a report -d 'render a saved report again'
complete -c memwatch -n $fresh -a doctor -d 'what works here, what does not, why, and the remedy'
complete -c memwatch -n $fresh -a help -d 'list the commands, or the options of one'
complete -c memwatch -n $fresh -a version -d 'print the version'
complete -c memwatch -n $fresh -l version -d 'print the version'

complete -c memwatch -n "$watches; and not __fish_seen_subcommand_from run" -s p -l pid -x -a '(__fish_complete_pids)' -d 'the process to watch'
complete -c memwatch -n '__fish_seen_subcommand_from attach doctor' -a '(__fish_complete_pids)'
complete -c memwatch -n '__fish_seen_subcommand_from run; and __memwatch_no_child' -a '(__fish_complete_command)'
complete -c memwatch -n '__fish_seen_subcommand_from run; and not __memwatch_no_child' -a '(__memwatch_child)'
complete -c memwatch -n '__fish_seen_subcommand_from help' -a "$commands"

set -l watches "$watches; and __memwatch_no_child"
complete -c memwatch -n $watches -s d -l duration -x -d 'stop after T'
complete -c memwatch -n $watches -s i -l interval -x -d 'time between samples'
complete -c memwatch -n $watches -s o -l output -r -F -d 'write the JSON report to FILE'
complete -c memwatch -n $watches -l json -d 'the JSON report on standard output'
complete -c memwatch -n $watches -l stream -r -F -d 'write NDJSON to FILE while it runs'
complete -c memwatch -n $watches -l sites -x -a 'auto off faults probe stacks' -d 'where call sites come from'
complete -c memwatch -n $watches -l heap -x -a 'auto off' -d "read the allocator's structures"
complete -c memwatch -n $watches -l children -d 'follow the whole process tree'
complete -c memwatch -n $watches -l limit -x -d 'a limit for the forecast'
complete -c memwatch -n $watches -l unit-func -x -d 'count calls of this function as units of work'
complete -c memwatch -n $watches -l unit-stdout -x -d 'run: count lines of standard output that match'
complete -c memwatch -n $watches -l unit-file -r -F -d 'take the count of units of work from FILE'
complete -c memwatch -n $watches -l expect -x -a 'any transient' -d 'what a unit of work may leave behind'
complete -c memwatch -n $watches -l fail-on -x -d 'exit with status 3 on such a verdict' \
    -a "(__fish_append , stable warmup scaling leak retention spike step growth insufficient-data)"
complete -c memwatch -n $watches -l budget -x -d 'CPU that memwatch may use, percent of one core'
complete -c memwatch -n $watches -l debuginfod -d 'fetch missing debug information'
complete -c memwatch -n $watches -s q -l quiet -d 'no progress on standard error'
complete -c memwatch -n $watches -l color -x -a 'auto always never' -d colours
complete -c memwatch -n $watches -s h -l help -d 'list the options'

set -l analyzes '__fish_seen_subcommand_from analyze'
complete -c memwatch -n $analyzes -F
complete -c memwatch -n $analyzes -l json -d 'one report a line on standard output'
complete -c memwatch -n $analyzes -s o -l output -r -F -d 'write the reports to FILE, one a line'
complete -c memwatch -n $analyzes -s f -l format -x -a 'auto report stream csv mprof massif psrecord prometheus' -d 'format of the files'
complete -c memwatch -n $analyzes -l limit -x -d 'a limit for the forecast'
complete -c memwatch -n $analyzes -l expect -x -a 'any transient' -d 'whether a unit of work may leave something behind'
complete -c memwatch -n $analyzes -l fail-on -x -d 'exit with status 3 on such a verdict' \
    -a "(__fish_append , stable warmup scaling leak retention spike step growth insufficient-data)"
complete -c memwatch -n $analyzes -s q -l quiet -d 'errors only on standard error'
complete -c memwatch -n $analyzes -l color -x -a 'auto always never' -d colours

complete -c memwatch -n '__fish_seen_subcommand_from report' -F
complete -c memwatch -n '__fish_seen_subcommand_from report' -s f -l format -x -a 'text json ndjson folded pprof speedscope' -d 'the format'
complete -c memwatch -n '__fish_seen_subcommand_from report' -s o -l output -r -F -d 'write to FILE'
complete -c memwatch -n '__fish_seen_subcommand_from analyze report doctor' -s h -l help -d 'list the options'
complete -c memwatch -n '__fish_seen_subcommand_from doctor' -l clean -d 'take out what an earlier memwatch has left'
