# Sourced by fetch-kernel and fetch-qemu, which define `skip REASON`. apt with lists and a cache of
# its own, over this machine's own Debian mirror: nothing is installed, and nothing of the machine's
# apt is changed.

for tool in apt-get apt-cache dpkg-deb flock; do
  command -v "$tool" >/dev/null || skip "no $tool here, cannot fetch Debian packages"
done

# private_apt FOLDER SUITE...: sets `apt`, options for apt-get and apt-cache, and reads the suites'
# package lists into FOLDER.
private_apt() {
  local folder=$1 mirror suite
  shift
  # Both formats of apt's sources. The security archive has no packages of other suites.
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' |
    grep -v security | grep -E '/debian/?$' | head -n 1) || true
  [[ $mirror ]] || skip "no Debian mirror in this machine's apt sources"
  mkdir -p "$folder"/lists/partial "$folder"/cache/archives/partial
  for suite; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done >"$folder/suite.list"
  apt=(-o "Dir::Etc::sourcelist=$folder/suite.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder/cache"
    -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none)
  echo "${0##*/}: reading the package list of $*" >&2
  apt-get "${apt[@]}" -qq update >&2 || skip "cannot read the package list of $* from the mirror"
}
