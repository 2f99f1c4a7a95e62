//! Halley: a supervisor for bare processes that replaces what serves without a client noticing.
//!
//! # Architecture
//!
//! Five kinds of processes, all of one binary:
//!
//! ```text
//!  halley-sup VERB            halley-sup run              a service
//!  (cli, for as long as  ┌──────────────────────┐     ┌──────────────┐
//!   it watches)          │ keeper               │────▶│ launcher,    │ sets descriptors, user,
//!      │                 │ holds descriptors,   │fork │ then execve: │ environment
//!      │                 │ parent of every      │     │ the program  │
//!      │                 │ process, re-starts ──┼──┐  └──────────────┘
//!      │ control socket  └──────────▲───────────┘  │  ┌──────────────┐
//!      │ (api: JSON lines)          │ SEQPACKET    │  │ forwarder or │ only with handoff = "port",
//!      ▼                            ▼              │  │ relay        │ or for connections that
//!  ┌────────────────────────────────────────────┐  │  └──────────────┘ came too late
//!  │ supervisor: config, journal, probes,       │◀─┘  ┌──────────────┐
//!  │ steering, logs; may die at any instruction │◀────│ decoder      │ while an artifact is unpacked
//!  └────────────────────────────────────────────┘     └──────────────┘
//! ```
//!
//! ## Rooms
//!
//! | room | what is there | may use |
//! |---|---|---|
//! | [`core`] | every decision; pure: `operation` is one release or rollback, `analysis` what samples mean, `drain` how processes are stopped, `release_set` several releases as one | nothing |
//! | [`text`] | values as text | core's time |
//! | [`json`] | values as JSON, and JSON as values | nothing |
//! | [`api`] | what client and supervisor send each other, one file a verb | core, json |
//! | [`config`] | what was typed in, checked as a whole, valid by construction; `kinds` lists the families of drivers, each kind in a file of its own | core, json |
//! | [`store`] | what is on disk: every path, journal, state, trial, releases, intake, history | api, core, json, os's files, the decoder's protocol |
//! | [`os`] | the kernel fence: the only `unsafe`, the only raw descriptors; `beneath` is how root works in directories of other users | core's time and ordered, json |
//! | [`keeper`] | holds descriptors, is the parent of every process, answers intercepted calls; `estate` is what one keeper leaves to the next | os, core's time, backoff and ordered, json |
//! | [`decode`] | a process without rights that reads an artifact and says what is in it | os |
//! | [`follow`] | two processes that let kept connections follow the flip: a watcher, and a holder that puts every mark down | os |
//! | [`forward`] | a process that passes connections on: to a program that was told its port, or from an abandoned slot | os, core's backoff |
//! | [`supervisor`] | performs what the core decides | api, core, config, json, store, os, text, the keeper's protocol |
//! | [`cli`] | one file a verb; talks to the supervisor by [`api`]; `doctor` looks for damaged files itself | api, config, core, demo, docs, json, os, text |
//! | [`docs`] | the reference, one topic a file; texts only | nothing |
//! | [`demo`] | the main job on real processes; its program and load client serve the tests as well | cli's output, os, text |
//!
//! The rooms of the supervisor, from the bottom up; doors lead down only:
//!
//! ```text
//!  run                 boot, reload, stop: the main loop
//!  control             the socket, one file a verb
//!  release_set         several releases as one
//!  operation           one release, rollback or restart, from admission to conclusion
//!  data                backup, migration, trial migration
//!  rollback_readiness  could we go back? schema, rehearsal, drill
//!  bake                watches a release that has traffic, returns a verdict
//!  instances           start, gate, restart, drain, scale; leads an outside proxy to them
//!  health              asks an instance, returns a result
//!  tasks               programs that run once, to their end
//!  service             the nouns: durable state, routing, activity, condition
//!  notify · proxy      messages to people; an outside reverse proxy
//!  sockets             listeners, slots, steering
//!  processes           what is asked of the keeper; the one runner of commands
//!  spawn               what runs beside, in tasks and threads
//! ```
//!
//! Tests hold all of these arrows, with a list of the exceptions and their reasons.
//!
//! ## The way of a release
//!
//! ```text
//!  cli/release ──api──▶ control/verbs/release ──▶ operation/admission     refused, or numbered and journalled
//!                                                  operation/runner       the loop: announce, perform, step
//!                                                  operation/job          what it owns; hands each phase its values
//!                         core/operation/machine ◀──▶ operation/phases    one function a phase
//!    receive verify preflight stage      phases/receive, phases/preflight  decode, store/intake: staging/ to releases/N
//!    rehearse_old                        rollback_readiness/rehearsal
//!    backup restore_rehearsal migrate    data/trial_migration, data/migration
//!    start gate                          instances/start, instances/gate
//!    flip                                service/mod (steer_to), sockets/slots, instances/outside_proxy
//!    bake hold                           bake
//!    commit                              service/durable: one rename
//!    back_*                              phases/rollback                  the same machine, entered elsewhere
//!                                        operation/conclude               result, history, notifications
//!                                        instances/retire                 the old release: warm, drained, stopped
//! ```
//!
//! A keeper that dies is replaced by its supervisor, which has copies of all that it had
//! (`processes/copies`) and becomes the next keeper; that one starts another supervisor. When both
//! die, `run` puts a keeper together from what they had written down and what still runs
//! (`keeper/estate/record`, `keeper/estate/remains`). In an upgrade the keeper becomes another program
//! (`supervisor/upgrade`, `keeper/keeping/upgrading`).
//!
//! After a crash `supervisor/operation/take_over` reads the journal and the keeper's list,
//! [`core::operation::recover`] says where the operation goes on, and `operation/resume` lets it.
//!
//! ## Where to find
//!
//! - A verb: `cli/<verb>.rs`, `api/<verb>.rs`, `supervisor/control/verbs/<verb>.rs`, `tests/e2e`.
//! - A listener: [`supervisor::sockets::listener`], either a [`supervisor::sockets::reuseport_group`]
//!   (an internet address) or a `sockets/unix_listener.rs` (a path).
//! - A health check: `supervisor/health`; a round of them: `health/probe_all.rs`; the gate and the
//!   checks at rest: `instances/gate.rs`, `instances/liveness.rs`.
//! - A stop of a process: [`core::drain`] decides, `instances/drain.rs` performs, each kind of stop
//!   is a function of `instances/retire.rs`.
//! - A command that is run for the user, of whatever kind: `processes/host_command.rs`.
//! - A phase: [`core::operation::phase`] names it, [`core::operation::machine`] says what follows,
//!   a file of `operation/phases` performs it.
//! - A strategy: [`core::operation::plan`] has how old and new meet, [`core::operation::rollout`] a
//!   canary's parts; `phases/rollout_step.rs` performs those, `phases/in_turn.rs` hold and replace.
//! - A trouble: `api/trouble.rs` is its four lines; `service/refusal.rs` refuses a verb,
//!   `operation/conclude.rs` explains a result, `operation/alarm.rs` what needs a human;
//!   `service/condition.rs` keeps what is wrong with a service meanwhile.
//! - A field of `status`: `api/status.rs` has its key, `core/status.rs` its words,
//!   `control/verbs/status.rs` fills it, `cli/render/tables.rs` shows it to people.
//! - A line of output: pipe, then `os/spool.rs` (a memfd that the keeper holds), then
//!   `processes/log_files.rs`. While no supervisor has greeted the keeper, `keeper/outputs.rs` fills the
//!   spool: a process of its own for logs would be one more that can die, and the keeper has both
//!   descriptors already and moves bytes by one system call without reading them.
//! - A limit, a rank or a capability of a program: `config/limits.rs` reads it, `os/limits.rs` sets it in the
//!   launcher.
//! - What a crash loop or a health check at rest leads to: `on_crash_loop`, `on_unhealthy` of the configuration,
//!   noted in `service/condition.rs`, performed by `operation/reaction.rs`.
//! - What of a release's tree lies outside of it (`links`, `writable`): `store/leads.rs`.
//! - How a client finds its supervisor when the configuration is spoilt: `os/running.rs`.
//! - A damaged file: `store/damage.rs` finds it, `store/rebuild.rs` makes a state of what is left,
//!   `store/salvage.rs` a journal; `operation/repair_work.rs` decides and mends.
//! - How to add one: `halley-sup help contributing`.
//!
//! # Words
//!
//! *service*, *release*, *instance*, *listener*, *slot*, *steer*, *flip*, *probe*, *gate*, *bake*,
//! *trial*, *commit*, *standby*, *hold*, *drain*, *operation*, *verdict*, *freeze* mean one thing
//! each, in code, configuration and output. *generation*: one start of a release; a restart makes
//! another of the same release. *rung*: a step of the way back; rung 0 is the process that served
//! before and still runs, the others are cold starts. *succession*: how old and new meet, side by
//! side (*overlap*) or *in turn*. *step*: a part of the connections goes to the candidate.
//! *rehearsal*: a release is started beside the one that serves, probed, and stopped again.
//! *readiness*: whether a rollback would work now. *receipt*: a backup that was taken; *site*: the
//! live data, or a copy. *set*: releases of several services as one operation, all or none; its
//! services are *members*. *signal*, of a bake: one thing that it looks at. *hook*: a command at a
//! *point* of a release.
//!
//! # Architecture invariants
//!
//! - `core` never touches the world, so it cannot fail.
//! - `unsafe` stands in `os` alone.
//! - The keeper never reads configuration, never knows a release, never waits for anyone.
//! - The supervisor may be killed between any two instructions, and so may the keeper.
//! - A process that has served is stopped in one way, and the signal is compared with who must be
//!   alive at that instant.

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod decode;
pub mod demo;
pub mod docs;
pub mod follow;
pub mod forward;
pub mod json;
pub mod keeper;
#[allow(unsafe_code, reason = "the kernel fence: the one module that may")]
pub mod os;
pub mod store;
pub mod supervisor;
pub mod text;
