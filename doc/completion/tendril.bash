# SPDX-License-Identifier: Apache-2.0
# bash completion for tendril(1)

_tendril()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local group="" verb="" word i options="--socket --output --help"

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--socket | --from | --to | --port | --file | -f | --output | -o | --type | --limit | --canary | --for | --namespace | -n | --by | --html | --svg | --junit)
			((i++))
			;;
		-*) ;;
		*)
			if [[ -z $group ]]; then
				group=$word
			elif [[ -z $verb ]]; then
				verb=$word
			fi
			;;
		esac
	done

	case $prev in
	-o | --output)
		word="text json"
		[[ "$group $verb" == "policy test" ]] && word+=" tap junit"
		mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
		return
		;;
	--port | --limit | --canary | --for | --namespace | -n)
		return
		;;
	--type)
		mapfile -t COMPREPLY < <(compgen -W "drop verdict audit drop,audit" -- "$cur")
		return
		;;
	--by)
		mapfile -t COMPREPLY < <(compgen -W "pod namespace labels=" -- "$cur")
		return
		;;
	-f | --file | --socket | --html | --svg | --junit)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--from | --to)
		mapfile -t COMPREPLY < <(compgen -W "$(_tendril_pods)" -- "$cur")
		return
		;;
	esac

	case "$group $verb" in
	" ")
		mapfile -t COMPREPLY < <(compgen -W "status endpoint service identity policy monitor \
			conntrack $options --version" -- "$cur")
		return
		;;
	"endpoint " | "service ") word="list get" ;;
	"identity " | "conntrack ") word="list" ;;
	"policy ") word="validate apply delete list get explain matrix diff test lint record" ;;
	"endpoint get") word=$(_tendril_pods) ;;
	"policy validate")
		mapfile -t COMPREPLY < <(compgen -f -W "--file --verbose --lenient $options" -- "$cur")
		return
		;;
	"policy test")
		mapfile -t COMPREPLY < <(compgen -f -W "--file --verbose --junit $options" -- "$cur")
		return
		;;
	"policy diff" | "policy lint")
		mapfile -t COMPREPLY < <(compgen -f -W "--file --verbose $options" -- "$cur")
		return
		;;
	"policy apply") word="--file --verbose --dry-run --canary --then-apply" ;;
	"policy delete") word="--file --verbose $(_tendril_policies)" ;;
	"policy get") word=$(_tendril_policies) ;;
	"policy record") word="--for --namespace $(_tendril_pods)" ;;
	"policy explain") word="--from --to --port --file --verbose" ;;
	"policy matrix") word="--port --by --html --svg --file --verbose" ;;
	"monitor ") word="--type" ;;
	"conntrack list") word="--limit" ;;
	*) word="" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$word $options" -- "$cur")
}

# Names of the pods on this node; nothing without an agent.
_tendril_pods()
{
	tendril endpoint list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# Names of the policies in force: NAMESPACE/NAME, and /NAME of those of the cluster.
_tendril_policies()
{
	tendril policy list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

complete -o filenames -F _tendril tendril
