//! Halley: a supervisor for bare processes that replaces what serves without a client noticing.
//!
//! # The house
//!
//! | room | what is there | may use |
//! |---|---|---|
//! | [`core`] | what Halley decides; pure: `operation` is one release or rollback, `drain` who is stopped, `release_set` several as one | nothing |
//! | [`api`] | what client and supervisor say to each other | core |
//! | [`config`] | what was typed in, checked as a whole, valid by construction | core |
//! | [`store`] | durable truth: every path, journal, state, trial, releases, intake, history | api, core, os's files |
//! | [`os`] | the kernel fence: the only `unsafe`, the only raw descriptors | core's time |
//! | [`keeper`] | the error kernel: holds descriptors, is every child's parent, answers intercepted binds | os, core's time and backoff |
//! | [`forward`] | a process that splices a listener's connections to a program that was told its port, or callers that were left waiting to where the others go | os, core's backoff |
//! | [`supervisor`] | the shell: performs effects, probes, steers, serves the control socket | api, core, config, store, os, text, the keeper's protocol |
//! | [`cli`] | one file a verb; talks to the supervisor by its protocol | api, config, core, demo, docs, os, text |
//! | [`docs`] | the reference, one topic a file; texts only | nothing |
//! | [`demo`] | the main job on real processes; its program and load client serve the tests as well | cli's output, os, text |
//!
//! A test holds these arrows, with a list of the exceptions and their reasons. It holds the rooms of
//! the supervisor as well, from the bottom up.
//!
//! # Where to begin
//!
//! `halley-sup run` is [`keeper`]; it starts `halley-sup supervisor`, which is
//! [`supervisor::run`]. A verb is in `cli/<verb>.rs`, `api/<verb>.rs` and `supervisor/control/verbs/<verb>.rs`, and in
//! `tests/e2e`. A listener is [`supervisor::sockets::listener`], of two makes: [`supervisor::sockets::reuseport_group`] (an
//! internet address) and [`supervisor::sockets::unix_listener`] (a unix socket's path). An operation begins in [`supervisor::operation::admission`], runs in [`supervisor::operation::runner`],
//! does each phase in [`supervisor::operation::phases`] (with its [`supervisor::operation::hooks`]) and
//! [`supervisor::operation::phases::rollback`], is watched by [`supervisor::bake`], ends in [`supervisor::operation::conclude`]. After a
//! crash it goes on from [`supervisor::operation::resume`]. Several as one are [`supervisor::release_set`], decided by
//! [`core::release_set`]. Data is saved by [`supervisor::data::backup`], tried on a copy in
//! [`supervisor::data::trial_migration`], changed by [`supervisor::data::migration`], brought back by
//! [`supervisor::data::restore`]. Whether one could go back is [`supervisor::rollback_readiness`], tried by
//! [`supervisor::rollback_readiness::rehearsal`]. Who is told without asking: [`supervisor::notify`]. Callers that were
//! held, or came too late, are passed on by [`supervisor::sockets::relay`].
//!
//! # Words
//!
//! *service*, *release*, *instance*, *listener*, *slot*, *steer*, *flip*, *probe*, *gate*, *bake*,
//! *trial*, *commit*, *standby*, *hold*, *drain*, *operation*, *verdict*, *freeze* mean one thing
//! each, in code, configuration and output. *generation*: one start of a release; a restart makes
//! another of the same release. *rung*: a step of the way back; rung 0 is the process that served
//! before and still runs, the others are cold starts. *succession*: how old and new meet, side by
//! side (*overlap*) or *in turn*. *step*: a part of the connections goes to the candidate. *place*:
//! where an instance listens that is told its port. *entry*: an outside proxy that leads there.
//! *oneshot*: a command that is run once, to its end. *rehearsal*: a release is tried out beside the
//! one that serves, and stopped again. *readiness*: whether a rollback would work now. *receipt*: a
//! backup that was taken; *site*: the live data, or a copy. *set*: releases of several services as
//! one operation, all or none; its services are *members*. *signal*, of a bake: one thing that it
//! looks at. *hook*: a command at a *point* of a release. *outbox*: notifications that their
//! *targets* have not had yet.
//!
//! # Architecture invariants
//!
//! - `core` never touches the world, so it cannot fail.
//! - `unsafe` stands in `os` alone.
//! - The keeper never reads configuration, never knows a release, never waits for anyone.
//! - The supervisor may be killed between any two instructions.
//! - Nothing that has served is stopped by an operation; `core::drain` compares before it acts.

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod demo;
pub mod docs;
pub mod forward;
pub mod keeper;
#[allow(unsafe_code, reason = "the kernel fence: the one module that may")]
pub mod os;
pub mod store;
pub mod supervisor;
pub mod text;
