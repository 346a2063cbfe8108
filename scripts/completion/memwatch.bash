# SPDX-License-Identifier: GPL-3.0-or-later
# bash completion for memwatch                                  -*- shell-script -*-

_memwatch_pids()
{
	local pid
	for pid in /proc/[0-9]*; do
		printf '%s\n' "${pid#/proc/}"
	done
}

# Fills COMPREPLY with the words of $2 that begin with $1.
_memwatch_words()
{
	mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
}

_memwatch_files()
{
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# The value of an option; fails where the option before the cursor takes none.
_memwatch_value()
{
	local option=$1 cur=$2 last
	case $option in
	--sites) _memwatch_words "$cur" "auto off faults probe stacks" ;;
	--heap) _memwatch_words "$cur" "auto off" ;;
	--color) _memwatch_words "$cur" "auto always never" ;;
	-f | --format)
		if [[ $command == analyze ]]; then
			_memwatch_words "$cur" "auto report stream csv mprof massif psrecord prometheus"
		else
			_memwatch_words "$cur" "text json ndjson folded pprof speedscope"
		fi
		;;
	--expect) _memwatch_words "$cur" "any transient" ;;
	-p | --pid) _memwatch_words "$cur" "$(_memwatch_pids)" ;;
	-o | --output | --stream | --unit-file) _memwatch_files "$cur" ;;
	-d | --duration | -i | --interval | --limit | --budget | --unit-func | --unit-stdout) COMPREPLY=() ;;
	--fail-on)
		last=${cur##*,}
		_memwatch_words "$last" "stable warmup scaling leak retention spike step growth insufficient-data"
		COMPREPLY=("${COMPREPLY[@]/#/${cur%"$last"}}")
		compopt -o nospace 2>/dev/null
		;;
	*) return 1 ;;
	esac
	return 0
}

# The first command word, and under run the index of CMD: 0 where it has not been given yet.
_memwatch_scan()
{
	local i word
	command='' child=0
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--)
			[[ $command == run ]] && child=$((i + 1))
			return
			;;
		-d | -i | -o | -p | -f | --duration | --interval | --output | --pid | --format | --stream | --sites | --heap | --limit | --fail-on | --budget | --color | --expect | --unit-func | --unit-stdout | --unit-file)
			[[ ${COMP_WORDS[i + 1]} == '=' ]] && ((i++))
			((i++))
			;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=$word
			elif [[ $command == run ]]; then
				child=$i
				return
			fi
			;;
		esac
	done
}

_memwatch()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command child
	local commands='attach run analyze report doctor help version'
	local watch='-d --duration -i --interval -o --output --json --stream --sites --heap --children --limit --fail-on --budget
		--unit-func --unit-stdout --unit-file --expect --debuginfod -q --quiet --color -h --help'

	COMPREPLY=()
	_memwatch_scan
	if ((child > 0)); then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$child"
		elif ((child == COMP_CWORD)); then
			mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		else
			_memwatch_files "$cur"
		fi
		return
	fi
	# --option=value comes as three words
	if [[ $cur == '=' ]]; then
		_memwatch_value "$prev" '' && return
	elif [[ $prev == '=' ]] && ((COMP_CWORD >= 2)); then
		_memwatch_value "${COMP_WORDS[COMP_CWORD - 2]}" "$cur" && return
	fi
	_memwatch_value "$prev" "$cur" && return
	case $command in
	'') if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "-p --pid --version $watch"
	else
		_memwatch_words "$cur" "$commands"
	fi ;;
	attach) if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "-p --pid $watch"
	else
		_memwatch_words "$cur" "$(_memwatch_pids)"
	fi ;;
	run) if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "$watch --"
	else
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
	fi ;;
	analyze) if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "--json -o --output -f --format --limit --expect --fail-on -q --quiet --color -h --help"
	else
		_memwatch_files "$cur"
	fi ;;
	report) if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "-f --format -o --output -h --help"
	else
		_memwatch_files "$cur"
	fi ;;
	doctor) if [[ $cur == -* ]]; then
		_memwatch_words "$cur" "--clean -h --help"
	else
		_memwatch_words "$cur" "$(_memwatch_pids)"
	fi ;;
	help) _memwatch_words "$cur" "$commands" ;;
	esac
}

complete -F _memwatch memwatch
