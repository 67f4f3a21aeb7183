# Sourced by the scripts of this folder: where things are kept, and how a script gives up.

# Everything that is installed lives here, outside of the tree, so that a second run is quick.
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"

# The tools that every script may rely on once `need` has passed.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || give_up "$tool is not installed"
  done
}

# The reason goes to stderr as the last line: the summary prints it as "not run: <reason>".
give_up() {
  echo "$(basename "$0" .sh): $1" >&2
  exit 1
}

# Runs a step with its output in a log; a failing step names the log.
step() {
  local log="$cache/logs/$1.log"
  shift
  mkdir -p "$cache/logs"
  "$@" >"$log" 2>&1 || give_up "'$1 ${2:-}' failed; see $log"
}

# One install at a time per target: two runs side by side would unpack over each other.
one_at_a_time() {
  mkdir -p "$cache/locks"
  exec 9>"$cache/locks/$1"
  flock 9
}
