# SPDX-License-Identifier: Apache-2.0
# Completion of ovs-offload-top and ovs-offload-advise in bash.  The options are those
# that --help prints.

_ovs_offload_tool() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    case $prev in
        -s | --sort) words='packets bytes' ;;
        --datapath) words='netdev system' ;;
        --flows | --openmetrics | --prometheus)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return ;;
        -t | --target)
            words="ovs-vswitchd $(compgen -G '/var/run/openvswitch/ovs-vswitchd.*.ctl')" ;;
        -i | --interval | -n) return ;;
        *) words=$("$1" --help 2> /dev/null | grep -oE -- '(^|[ ,[])--?[a-z]+' \
               | tr -d ' ,[' | sort -u) ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _ovs_offload_tool ovs-offload-top ovs-offload-advise
