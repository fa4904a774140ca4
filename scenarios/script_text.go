package scenarios

// The parts of a script that are the same for every lab. A lab is taken down
// by its state folder, which is there only after it was sure that none of the
// lab's namespaces was: `down` never touches one that the script did not make.
const common = `fail() {
  echo "$0: $*" >&2
  exit 1
}

# tool PROGRAM PACKAGE
tool() {
  command -v "$1" >/dev/null || fail "$1 is missing: apt install $2 (or as your system has it)"
}

# module NAME FILE: FILE is there when the kernel has the module
module() {
  [ -e "$2" ] || modprobe "$1" 2>/dev/null || :
  [ -e "$2" ] || fail "this kernel has no $1, and 'modprobe $1' does not help; 'lvslab run $lab' boots a kernel that has it"
}

down() {
  [ -d "$state" ] || {
    echo "The lab $lab is not up."
    return
  }
  for ns in $namespaces; do
    [ -e "/var/run/netns/$ns" ] || continue
    for pid in $(ip netns pids "$ns"); do
      kill "$pid" 2>/dev/null || :
    done
    ip netns del "$ns"
  done
  rm -rf "$state"
}

# What is half up is taken down again.
undo() {
  status=$?
  trap - EXIT
  echo "$0: that failed; taking the lab down again" >&2
  down
  exit "$status"
}
`

// verbs ends a script; its argument is the number of steps.
const verbs = `
case ${1:-up} in
up)
  check
  umask 022
  mkdir -p "${state%%/*}"
  mkdir "$state" || fail "the lab is up; sh $0 down takes it down"
  trap undo EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  up
  trap - EXIT HUP INT TERM
  echo "The lab $lab is up: $namespaces."
  ;;
step)
  steps=%d
  [ -d "$state" ] || fail "the lab is not up: sh $0 up"
  [ "${2:-0}" -ge 1 ] 2>/dev/null && [ "$2" -le "$steps" ] || fail "which step? 1 to $steps"
  step_tools
  set -x
  "step_$(($2))"
  ;;
down)
  [ "$(id -u)" = 0 ] || fail 'only root can take the lab down'
  down
  ;;
*)
  echo "usage: sh $0 [up | step N | down]" >&2
  exit 2
  ;;
esac
`
