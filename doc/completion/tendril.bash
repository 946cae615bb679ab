# SPDX-License-Identifier: Apache-2.0
# bash completion for tendril(1): the program itself knows what may come next.

_tendril()
{
	local cur=${COMP_WORDS[COMP_CWORD]}

	mapfile -t COMPREPLY < <(tendril complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	[[ ${COMPREPLY[*]} != *:file* ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

complete -o filenames -F _tendril tendril
