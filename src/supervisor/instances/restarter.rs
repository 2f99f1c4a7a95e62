//! How the end of a process is handled: its duty decides.
//!
//! A live one is started again in its own slot, where its connections wait in the queue meanwhile.
//! A candidate's end is the operation's business, a standby's end makes the next rollback a cold
//! one.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use crate::core::backoff::Pauses;
use crate::core::crashes::Life;
use crate::core::duty::Duty;
use crate::core::operation::machine::Succession;
use crate::core::restart::{self, After, How, Process, Rest};
use crate::keeper::protocol::{ChildId, End, Reach};
use crate::os::{clock, memory};
use crate::supervisor::health::check;
use crate::supervisor::instances::drain;
use crate::supervisor::instances::retire;
use crate::supervisor::instances::start;
use crate::supervisor::instances::watchdog;
use crate::supervisor::service::Service;
use crate::supervisor::service::child_spec;
use crate::supervisor::service::condition::Source;
use crate::supervisor::service::instances::{Generation, Instance, LastEnd};
use crate::supervisor::service::notices;
use crate::supervisor::service::seat::Run;
use crate::supervisor::sockets::slots::Queue;
use crate::supervisor::spawn;
use crate::text;

/// Before the starts of a forwarder.
const FORWARDERS: Pauses = Pauses::doubling(50, 5_000);

/// Watches one process until it ends, then does what its duty asks for.
pub(crate) fn follow(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    process: Process,
    child: ChildId,
) {
    if process == Process::Program {
        watchdog::attend(service, generation, instance, child);
    }
    let mut end = service.link().end_of(child);
    let (service, generation, instance) =
        (Rc::clone(service), Rc::clone(generation), Rc::clone(instance));
    spawn::local(async move {
        let Ok(ended) = end.wait_for(Option::is_some).await.map(|end| *end) else { return };
        let ended = ended.unwrap_or(End::Unknown);
        if process == Process::Program && instance.was_asked_to_stop() {
            outlive_main(&service, &generation, &instance, child).await;
        }
        let Some(run) = instance.seat(process).take(child) else { return };
        let was_ready = instance.is_ready();
        if process == Process::Program {
            instance.note_ready(false);
        }
        note_end(&service, &generation, &instance, &run, ended);
        // Whatever it left behind, forked away or orphaned, goes with it.
        if let Err(error) =
            service.link().signal(run.child, libc::SIGKILL, Reach::Tree, Vec::new()).await
        {
            tracing::warn!(service = %service.name, %error, "killing processes that a process left behind");
        }
        service.link().acknowledge(run.child).await;
        generation.note_end();
        service.condition.note_change();
        // Who waits for it goes where others go, when these do not come here.
        service.tend();
        match process {
            Process::Forwarder => after_forwarder(&service, &generation, &instance).await,
            Process::Program => {
                let life = match was_ready {
                    true => Life::Healthy { ms: clock::tick().since_ms(run.started) },
                    false => Life::Unready,
                };
                let how = if ended.is_clean() { How::Clean } else { How::Failed };
                after_program(&service, &generation, &instance, life, how).await;
            }
        }
    });
}

/// A wrapper that ends at its stop signal leaves the program that it started, which is asked then, and has
/// the time that a program has.
async fn outlive_main(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    child: ChildId,
) {
    let Some(run) = instance.program.run().filter(|run| run.child == child) else { return };
    let rest = child_spec::tree_of(service, generation, child, Some(run.identity));
    let stop = &generation.settings.stop;
    if rest.left().is_empty() {
        return;
    }
    let number = drain::signal_number(&stop.signal);
    if let Err(error) = service.link().signal(child, number, Reach::Tree, Vec::new()).await {
        tracing::warn!(service = %service.name, %error, "stopping what a process left behind");
    }
    drop(rest.over(stop.timeout).await);
}

/// A forwarder that ended, or could not be started, is started again as long as there is a program
/// to pass connections on to: they wait in the queue meanwhile.
async fn after_forwarder(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
) {
    let mut pauses = FORWARDERS.begin();
    while instance.forwarder.is_empty() {
        let rest = rest_of(generation, instance.program.is_running());
        match restart::after(Process::Forwarder, generation.duty(), rest) {
            After::Restart if service.shared.stopping.get() => return,
            After::Restart => {}
            After::Dismiss => return drain::dismiss(service, generation).await,
            After::Stop | After::Leave => return,
        }
        tokio::time::sleep(pauses.pause()).await;
        // The next start of the program brings its forwarder with it.
        if !instance.program.is_running() {
            continue;
        }
        if let Err(error) = start::launch_forwarder(service, generation, instance).await {
            tracing::error!(service = %service.name, %error, "forwarding connections again");
        }
    }
}

async fn after_program(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    life: Life,
    how: How,
) {
    let rest = rest_of(generation, generation.is_alive());
    match restart::after(Process::Program, generation.duty(), rest) {
        After::Restart if !service.config().restart.restarts(how) => {
            finish(service, generation, instance).await;
        }
        After::Restart => {
            instance.withdraw();
            start_again(service, generation, instance, life).await;
        }
        After::Dismiss => drain::dismiss(service, generation).await,
        After::Stop => retire::stop_now(service, generation).await,
        After::Leave if generation.duty() == Duty::Standby => {
            drain::send_forwarders_on(service, &generation.instances()).await;
        }
        After::Leave => {}
    }
}

/// What the keeper has of a service whose program has ended for good.
pub(crate) fn finished_name(service: &Service) -> String {
    format!("ended/{}", service.name)
}

/// It is started again, by an order.
pub(crate) async fn unfinish(service: &Service) {
    if service.condition.finish(false) {
        service.condition.resolve(Source::Restart);
        if let Err(error) = service.link().forget(finished_name(service)).await {
            tracing::warn!(service = %service.name, %error, "forgetting that it has ended");
        }
    }
}

/// A live process has ended for good. The keeper holds the note, so that the next supervisor does not start
/// it again either.
async fn finish(service: &Rc<Service>, generation: &Rc<Generation>, instance: &Instance) {
    instance.withdraw();
    if generation.is_alive() {
        resteer(service, generation);
    }
    let how = instance.last_end().map_or_else(String::new, |last| last.end.explained());
    let text = format!(
        "release {} has ended ({how}) and is not started again, by restart = \"{}\"; halley-sup start {} \
         starts it",
        generation.release,
        service.config().restart.name(),
        service.name
    );
    tracing::warn!(service = %service.name, "{text}");
    service.condition.finish(true);
    let name = finished_name(service);
    // One from before.
    drop(service.link().forget(name.clone()).await);
    let kept = match memory::filled("ended", text.as_bytes()) {
        Ok(note) => service.link().keep(name, note.as_fd()).await.map_err(|it| it.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = kept {
        tracing::warn!(service = %service.name, why, "noting for the next supervisor that it has ended");
    }
    if instance.last_end().is_some_and(|last| !last.end.is_clean()) {
        notices::degraded(service, &text);
    }
    service.condition.report(Source::Restart, text);
}

/// What is left of a generation when one of its processes has ended.
fn rest_of(generation: &Generation, has_program: bool) -> Rest {
    match (has_program, generation.is_gone()) {
        (true, _) => Rest::Program,
        (false, false) => Rest::NoProgram,
        (false, true) => Rest::Nothing,
    }
}

/// Whether the guard is still to start this process.
fn is_wanted(service: &Service, generation: &Generation, instance: &Instance) -> bool {
    generation.duty() == Duty::Live && instance.is_wanted() && !service.shared.stopping.get()
}

/// Starts a live process again, with backoff, until it runs or is no longer wanted.
pub(crate) async fn start_again(
    service: &Rc<Service>,
    generation: &Rc<Generation>,
    instance: &Rc<Instance>,
    mut life: Life,
) {
    hold_callers(service, generation).await;
    loop {
        if generation.instances().len() > 1
            && generation.is_alive()
            && is_wanted(service, generation, instance)
        {
            resteer(service, generation);
        }
        let (now, chance) = (clock::tick(), clock::monotonic_ns() / 1000);
        let at = instance.next_start(now, life, chance);
        report_crash_loop(service, generation, instance);
        tokio::time::sleep(Duration::from_millis(at.since_ms(now))).await;
        if !is_wanted(service, generation, instance) || !instance.program.is_empty() {
            return;
        }
        life = Life::Unready;
        instance.note_restart();
        match start::launch(service, generation, instance).await {
            Ok(()) => return settle_in(service, generation, instance).await,
            // Given up meanwhile: nothing failed.
            Err(_) if !is_wanted(service, generation, instance) => return,
            Err(error) => {
                let text =
                    format!("release {} cannot be started again: {error}", generation.release);
                tracing::error!(service = %service.name, "{text}");
                notices::degraded(service, &text);
                service.condition.report(Source::Restart, text);
                if instance.program.is_running() {
                    after_forwarder(service, generation, instance).await;
                    return settle_in(service, generation, instance).await;
                }
            }
        }
    }
}

/// What is replaced in turn gets its connections when it is proven, after a crash too: a database that
/// recovers takes them at once, and turns them away. Those that wait in the dead one's slot are relayed to
/// where the others wait.
async fn hold_callers(service: &Rc<Service>, generation: &Rc<Generation>) {
    let is_held = service.succession() == Succession::InTurn
        && service.routing.live() == Some(generation.id)
        && !generation.is_alive();
    if !is_held {
        return;
    }
    let owned = |listener| service.owned_slots(listener);
    if let Err(error) = service.slots.hold(service.link(), Queue::Stays, owned).await {
        tracing::error!(service = %service.name, %error, "holding connections until it is ready again");
    }
    service.tend();
}

/// Crashes in a row, so many that somebody should look.
fn report_crash_loop(service: &Service, generation: &Generation, instance: &Instance) {
    let Some(n) = instance.crashes().in_loop() else { return };
    let last = instance.last_end().map(|last| last.end);
    let how =
        last.map_or_else(String::new, |end| format!(", the last one with {}", end.explained()));
    let why = format!(
        "crash loop: release {} has crashed {n} times in a row{how}; it is started again after \
         pauses of up to 30 s",
        generation.release
    );
    notices::degraded(service, &why);
    service.condition.report(Source::Restart, why);
    service.condition.want(service.config().on_crash_loop);
}

/// Gives a process its share of the connections back once it answers.
async fn settle_in(service: &Rc<Service>, generation: &Rc<Generation>, instance: &Rc<Instance>) {
    let health = &generation.settings.health;
    let limit = match service.succession() {
        Succession::InTurn => health.deadline.min(service.config().max_gap),
        Succession::Overlap => health.deadline,
    };
    let until = clock::tick().after_ms(text::ms(limit));
    while is_wanted(service, generation, instance)
        && instance.program.is_running()
        && clock::tick() < until
    {
        if check::at(service, generation, instance).await.is_good() {
            instance.note_ready(true);
            if instance.crashes().in_loop().is_some() {
                outlive_crashes(service, generation, instance);
            } else {
                answers_again(service, generation);
            }
            break;
        }
        tokio::time::sleep(health.interval).await;
    }
    if is_wanted(service, generation, instance) && instance.program.is_running() {
        instance.join();
        resteer(service, generation);
    }
}

/// A process answers that had crashed.
fn answers_again(service: &Service, generation: &Generation) {
    service.condition.resolve(Source::Restart);
    if generation.instances().iter().all(|instance| instance.is_ready()) {
        service.condition.serves();
    }
    notices::recovered(service);
}

/// A crash loop is over when the process has lived as long as it takes to forget the crashes: until
/// then it answers between two of them.
fn outlive_crashes(service: &Rc<Service>, generation: &Rc<Generation>, instance: &Rc<Instance>) {
    let Some(run) = instance.program.run() else { return };
    let (service, generation, instance) =
        (Rc::clone(service), Rc::clone(generation), Rc::clone(instance));
    spawn::local(async move {
        let over = run.started.after_ms(instance.crashes().fitting_ms());
        tokio::time::sleep(Duration::from_millis(over.since_ms(clock::tick()))).await;
        let is_same = instance.program.run().is_some_and(|now| now.child == run.child);
        if is_same && is_wanted(&service, &generation, &instance) {
            answers_again(&service, &generation);
        }
    });
}

fn resteer(service: &Rc<Service>, generation: &Rc<Generation>) {
    if service.routing.live() != Some(generation.id) {
        return;
    }
    if let Err(error) = service.steer_again() {
        tracing::error!(service = %service.name, %error, "steering to the processes that run");
    }
    service.tend();
}

fn note_end(service: &Service, generation: &Generation, instance: &Instance, run: &Run, end: End) {
    let last = LastEnd { pid: run.identity.pid, end, at: clock::tick() };
    instance.note_end(last);
    // By whom it was asked, Halley knows then.
    let how = match instance.was_asked_to_stop() {
        true => end.to_string(),
        false => end.explained(),
    };
    let text = format!("halley: process {} ended: {how}\n", run.identity.pid);
    if let Some(writer) = service.logs.open_writer(generation.release) {
        writer.borrow_mut().append(instance.index.0, text.as_bytes());
    }
    tracing::info!(service = %service.name, release = generation.release.0, pid = run.identity.pid, how,
        "a process ended");
}

/// Has the guard look at every process of a live generation that was found running: whether it
/// answers, a supervisor before this one knew.
pub(crate) fn look_at(service: &Rc<Service>, generation: &Rc<Generation>) {
    for instance in generation.instances().into_iter().filter(|it| it.program.is_running()) {
        let (service, generation) = (Rc::clone(service), Rc::clone(generation));
        spawn::local(async move { settle_in(&service, &generation, &instance).await });
    }
}

/// Has the guard start every process of a live generation that does not run, unless it has ended for good.
pub(crate) fn revive(service: &Rc<Service>, generation: &Rc<Generation>) {
    if service.condition.is_finished() {
        return;
    }
    for instance in &generation.instances() {
        if instance.program.is_empty() {
            let (service, generation, instance) =
                (Rc::clone(service), Rc::clone(generation), Rc::clone(instance));
            spawn::local(async move {
                start_again(&service, &generation, &instance, Life::Unready).await;
            });
        }
    }
}
