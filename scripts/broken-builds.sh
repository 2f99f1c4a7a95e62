#!/usr/bin/env bash
# Every ring of tests must be able to fail: each is given one build that is broken on purpose, in a copy of the
# tree, and its named test has to be red. Prints `ring | what was broken | test | red`; fails when one stays
# green. It builds once for each, so it is no part of the suite: 20 to 30 minutes on two cores.
#   scripts/broken-builds.sh [RING...]
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-nextest > /dev/null || { echo "cargo-nextest is missing" >&2; exit 1; }
asked=" $* "
copy=$PWD/target/broken
rm -rf "$copy/tree"
mkdir -p "$copy/tree"
git ls-files -z | tar c --null -T - | tar x -C "$copy/tree"
cd "$copy/tree"
export CARGO_TARGET_DIR=$copy/target
n_green=0

# replaced FILE FROM TO: what stands there exactly once.
replaced() {
    FROM=$2 TO=$3 perl -0777 -pi -e '$n = s/\Q$ENV{FROM}\E/$ENV{TO}/g; END { exit($n != 1) }' "$1" ||
        { echo "$1 has not exactly one: $2" >&2; exit 1; }
}

# broken RING WHAT FILE FROM TO TEST NEXTEST-ARGUMENTS...
broken() {
    local ring=$1 what=$2 file=$3 from=$4 to=$5 test=$6 code=0 verdict=red
    shift 6
    [[ $asked == "  " || $asked == *" $ring "* ]] || return 0
    cp "$file" "$copy/whole"
    replaced "$file" "$from" "$to"
    cargo nextest run "$@" --no-run > "$copy/log" 2>&1 ||
        { tail -30 "$copy/log" >&2; echo "$ring: the broken build does not build" >&2; exit 1; }
    cargo nextest run "$@" --retries 0 -E "test($test)" > "$copy/log" 2>&1 < /dev/null || code=$?
    # 100: a test has failed, and nothing else is red.
    if [[ $code != 100 ]]; then
        verdict="NOT RED (nextest: $code)"
        n_green=$((n_green + 1))
    fi
    echo "$ring | $what | $test | $verdict"
    cp "$copy/whole" "$file"
    touch "$file"
}

recover=src/core/operation/recover.rs
broken tables "ticks of the clock that people set" src/os/clock.rs \
    'ClockId::Boottime' 'ClockId::Realtime' ticks_are_of_the_time_since_boot --lib
broken fixtures "the state's last_good has another name" src/store/state.rs \
    '#[serde(deserialize_with = "Option::deserialize")]' \
    '#[serde(rename = "good", deserialize_with = "Option::deserialize")]' a_state_of_version_1_loads_for_ever --lib
broken properties "a release with a process is pruned" src/core/retention.rs \
    'roots.alive.contains' 'roots.pinned.contains' nothing_reachable_is_pruned --test props
broken fuzz "a journal that is no UTF-8 ends its reader" src/store/journal.rs \
    'let text = String::from_utf8_lossy(&bytes);
    let whole' 'let text = std::str::from_utf8(&bytes).unwrap_or_else(|_| std::process::abort());
    let whole' a_journal --test fuzz
broken model "a crash while the old one is stopped goes on with the start" $recover \
    'StopOld if seen.same_boot => at(StopOld, cause)' 'StopOld if seen.same_boot => at(Start, cause)' \
    in_turn_a_release_holds_under_every_interleaving --test model
broken simulation "an announced commit counts as done" $recover \
    'Commit if alive => at(Commit, cause)' 'Commit if alive => at(Done(Outcome::Committed), cause)' \
    thousands_of_long_walks_break_nothing_and_come_to_rest --test model
broken tidy "the core reads a clock" src/core/drain.rs \
    'use crate::core::time::Tick;' 'pub use std::time::Instant;
use crate::core::time::Tick;' the_core_touches_nothing --test tidy
broken kernel "accepted connections wait to fill their segments" src/os/listen.rs \
    'sockopt::set_tcp_nodelay(&fd, true)' 'sockopt::set_tcp_nodelay(&fd, false)' \
    accepted_connections_send_without_delay --test steer
broken forwarder "a worker without a thread ends the process" src/forward/mod.rs \
    'admission.close(desk)' 'std::process::abort()' without_a_second_thread_one_serves_everybody --test forward
broken cli "an alarm looks like a note" src/cli/render/status.rs \
    '"!! {}: {}"' '"! {}: {}"' a_release_that_turns_bad_and_what_status_says_of_it --test cli
broken e2e "late connections are not passed on" src/supervisor/sockets/relay.rs \
    'if !self.begun.borrow_mut().insert(inode)' 'if inode > 0' a_late_caller_is_passed_on --test e2e
broken crashes "what is live is undone after a crash" $recover \
    'Flip | Bake if alive && seen.n_tries_left > 0 => at(Flip, cause)' \
    'Flip | Bake if alive && seen.n_tries_left > 0 => at(Undo, cause)' a_kill_at_a_record_ends_in_old_or_new --test e2e
broken faults "the reserve is not given back on a full disk" src/store/reserve.rs \
    'Err(error) if is_full(&error)' 'Err(error) if is_full(&error) && dir.is_file()' \
    a_disk_without_a_byte_takes_no_way_out_away --test e2e

[[ $n_green == 0 ]] || { echo "$n_green stayed green" >&2; exit 1; }
