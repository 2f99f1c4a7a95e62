//! Listeners that a supervisor before this one had opened: from the keeper, or, when that was killed as
//! well, from the processes that have them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::config::model;
use crate::core::ids::SlotId;
use crate::os::memory::Note;
use crate::supervisor::processes::keeper_client::Link;
use crate::supervisor::sockets::listener::Listener;
use crate::supervisor::sockets::slot_order;
use crate::supervisor::sockets::slots::{Kept, Owned, SlotError, Slots};

/// A note of the kernel's order that was lost.
#[derive(Debug)]
pub(crate) struct Lost {
    name: String,
    order: Rc<Note>,
}

impl Slots {
    /// Takes over what a supervisor before this one had opened. Returns the notes of order that are
    /// lost: then the keeper was killed as well, and the slots come from processes that have them.
    ///
    /// # Errors
    /// When the group cannot be steered.
    pub(crate) fn adopt(
        &self,
        config: &model::Service,
        kept: &mut Kept,
    ) -> Result<Vec<Lost>, SlotError> {
        let mut lost = Vec::new();
        for wanted in &config.listen {
            let text = wanted.to_string();
            let order = kept.remove(&self.order_name(&text)).map(Note::adopt);
            let prefix = self.slot_name(&text, "");
            let names: Vec<String> =
                kept.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
            let slots: Vec<(SlotId, OwnedFd)> = names
                .iter()
                .filter_map(|name| Some((SlotId(name[prefix.len()..].parse().ok()?), name)))
                .filter_map(|(id, name)| Some((id, kept.remove(name)?)))
                .collect();
            if order.is_none() && slots.is_empty() {
                break;
            }
            let is_lost = order.is_none();
            let order = Rc::new(order.map_or_else(|| Note::new("slot order"), Ok)?);
            if is_lost {
                lost.push(Lost { name: self.order_name(&text), order: Rc::clone(&order) });
            }
            let known = order.read().unwrap_or_default();
            let known = known.iter().map(|id| SlotId(*id)).collect();
            let listener = Listener::new(wanted, config.backlog, &config.socket_file);
            listener.adopt(slots, known)?;
            self.listeners.borrow_mut().push(Owned { listener, address: text, order });
        }
        Ok(lost)
    }

    /// Where no slot is left that connections could wait in, they wait in a new one. A door keeps them
    /// where they are.
    ///
    /// # Errors
    /// When there is no such slot.
    pub(crate) async fn hold_again(
        &self,
        link: &Link,
        owned: impl Fn(usize) -> BTreeSet<SlotId>,
    ) -> Result<(), SlotError> {
        for (index, listener) in self.listeners().into_iter().enumerate() {
            if listener.leads_nowhere() && !matches!(listener, Listener::Door(_)) {
                let id = self.take_free(link, index, &owned(index)).await?;
                listener.steer(&[(id, 1)])?;
            }
        }
        self.handed_over();
        Ok(())
    }

    /// Has new notes kept in the place of those that are lost, with the order that the kernel has.
    /// `holders` are processes with their slots.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) async fn restore_notes(
        &self,
        link: &Link,
        lost: Vec<Lost>,
        holders: &[(Vec<SlotId>, i32)],
    ) -> Result<(), SlotError> {
        for Lost { name, order } in lost {
            link.keep(name, order.as_fd()).await?;
        }
        for (index, listener) in self.listeners().iter().enumerate() {
            if let Some(group) = listener.stream_group() {
                let at = |(slots, pid): &(Vec<SlotId>, i32)| Some((*slots.get(index)?, *pid));
                slot_order::find(group, &holders.iter().filter_map(at).collect::<Vec<_>>()).await;
            }
            self.note_order(index)?;
        }
        Ok(())
    }
}
