# SPDX-License-Identifier: Apache-2.0
# fish completion for tendril(1): the program itself knows what may come next.

function __tendril_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l offers (tendril complete $words[2..-1] 2>/dev/null)
    if contains -- :file $offers
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $offers
    end
end

complete -c tendril -f -a '(__tendril_complete)'
