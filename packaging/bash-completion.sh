# SPDX-License-Identifier: Apache-2.0
# Completion of ovs-offload-top, ovs-offload-advise and ovs-offload-dump in bash.  The
# options are those that --help prints.

_ovs_offload_tool() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    case $prev in
        -s | --sort) words='packets bytes' ;;
        --datapath) words='netdev system' ;;
        --flows | --openmetrics | --prometheus | -w | --write)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return ;;
        -t | --target)
            words="ovs-vswitchd $(compgen -G '/var/run/openvswitch/ovs-vswitchd.*.ctl')" ;;
        -f | --filter | -i | --interval | -n | -B | --buffer | -c | --count | --seconds \
            | --snaplen) return ;;
        ovs-offload-dump)
            words=$(ovs-appctl xdp-offload/show 2> /dev/null \
                | sed -n 's/^  \([^ ]*\): ifindex .*/\1/p') ;;
        # Those that are listed, not those that are spoken of.
        *) words=$("$1" --help 2> /dev/null | sed -n 's/^ \{2,6\}-/-/p' \
               | grep -oE -- '(^|, )--?[a-z]+' | tr -d ' ,') ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _ovs_offload_tool ovs-offload-top ovs-offload-advise ovs-offload-dump
