# bash completion for holdfast(1)
_holdfast()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= i
	local commands="run exec resume step status log show diff land undo queue approve deny pause cancel fork agency policy tool trust doctor verify fsck export gc daemon"
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--state) ((i++)) ;;
		-*) ;;
		*) cmd=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $prev in
	--policy) COMPREPLY=($(compgen -W "base offline coding" -f -- "$cur")); return ;;
	--agency) COMPREPLY=($(compgen -W "observe draft assist trusted autonomous" -- "$cur")); return ;;
	--workspace | --state) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--as) COMPREPLY=($(compgen -W "mine theirs file= retry fail accept fork" -- "$cur")); return ;;
	esac
	if [ -z "$cmd" ]; then
		COMPREPLY=($(compgen -W "$commands --state --json --plain --no-input --help --version" -- "$cur"))
		return
	fi
	case $cmd in
	run) COMPREPLY=($(compgen -W "--name --workspace --policy --agency --detach" -f -- "$cur")) ;;
	undo) COMPREPLY=($(compgen -W "--effect $(holdfast status --json 2>/dev/null | grep -o '"run":"[0-9a-f]\{8\}' | cut -d'"' -f4)" -- "$cur")) ;;
	exec) COMPREPLY=($(compgen -W "--policy --workspace --agency --name --land -i -t" -c -- "$cur")) ;;
	policy)
		if ((COMP_CWORD == i + 1)); then
			COMPREPLY=($(compgen -W "check explain test learn diff schema" -- "$cur"))
			return
		fi
		COMPREPLY=($(compgen -W "--replay --policy --output" -f -- "$cur")) ;;
	queue) COMPREPLY=($(compgen -W "-i --stats" -- "$cur")) ;;
	approve | deny) COMPREPLY=($(compgen -W "$(holdfast queue --json 2>/dev/null | grep -o '"approval":"[0-9a-f]\{8\}' | cut -d'"' -f4) --as --path --digest --reason --sign --signer --grant --uses --expires --scope --rule --revoke --yes" -- "$cur")) ;;
	agency)
		if ((COMP_CWORD > i + 1)); then
			COMPREPLY=($(compgen -W "observe draft assist trusted autonomous --yes" -- "$cur"))
			return
		fi ;;&
	resume | status | log | show | diff | land | pause | cancel | fork | agency)
		COMPREPLY=($(compgen -W "$(holdfast status --json 2>/dev/null | grep -o '"run":"[0-9a-f]\{8\}' | cut -d'"' -f4)" -- "$cur")) ;;
	trust) COMPREPLY=($(compgen -f -- "$cur")) ;;
	esac
}
complete -F _holdfast holdfast
