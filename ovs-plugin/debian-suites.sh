# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Packages of Debian's other suites, without a change to this machine, which has Debian 12
# or a later one: for scripts to source.  apt gets a state of its own, which knows, at the mirrors of
# the machine's own Debian sources, the suites from Debian 12 up to experimental.
#
#   suites_update        updates the lists of packages if they are older than a day
#   suites_apt PROGRAM   runs apt-get or apt-cache with them
#   suites_forget        lets the next suites_update update them in any case
#
# The script has set "cache", the directory in which the state is kept (apt/), and
# defines "say".

suites_dir=${cache:?}/apt
suites_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
suites_main=(bookworm bookworm-backports trixie trixie-backports forky unstable
             experimental)
suites_security=(bookworm-security trixie-security)

suites_apt() {
    "$1" -c "$suites_dir/apt.conf" "${@:2}"
}

suites_forget() { rm -f "$suites_dir/updated"; }

# Prints the source of each suite.
suites_sources() {
    local uri suite all
    apt-get indextargets --format "\$(REPO_URI) \$(RELEASE)" \
        'Created-By: Packages' 'Component: main' \
        | sort -u | while read -r uri suite; do
            case $suite in
                bookworm | trixie | forky | testing) all=("${suites_main[@]}") ;;
                bookworm-security | trixie-security) all=("${suites_security[@]}") ;;
                bookworm-* | trixie-* | forky-*) all=("$suite") ;;
                *) continue ;;
            esac
            printf "deb [signed-by=$suites_keyring] $uri %s main\n" \
                "${all[@]}"
        done | sort -u
}

suites_write_config() {
    mkdir -p "$suites_dir/lists/partial" "$suites_dir/cache/archives/partial"
    suites_sources > "$suites_dir/sources.new"
    cmp -s "$suites_dir/sources.new" "$suites_dir/sources.list" || suites_forget
    mv "$suites_dir/sources.new" "$suites_dir/sources.list"
    # The hooks of the machine's configuration are about its own state.
    cat > "$suites_dir/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Dir::Etc::sourcelist "$suites_dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$suites_dir";
Dir::State::status "/dev/null";
Dir::Cache "$suites_dir/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
CONF
}

suites_update__() {
    suites_write_config
    [ -z "$(find "$suites_dir/updated" -mmin -1440 2>/dev/null)" ] || return 0
    [ -s "$suites_dir/sources.list" ] \
        || { say "this machine has no source of Debian 12 or a later one"; return; }
    say "updating the lists of packages"
    if suites_apt apt-get update > "$suites_dir/update.log" 2>&1; then
        touch "$suites_dir/updated"
    else
        tail -n 5 "$suites_dir/update.log" >&2
        say "not all lists could be updated"
    fi
}

# One script at a time.
suites_update() {
    mkdir -p "$suites_dir"
    { flock 8; suites_update__ 8>&-; } 8> "$suites_dir/lock.update"
}
