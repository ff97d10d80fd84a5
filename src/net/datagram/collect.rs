//! What a protocol sends while it is told of several datagrams, which is handed to the kernel together: one call for all of them costs a
//! small part of one for each.

use super::{COLLECTING, Datagram, LOSING, Message};
use crate::engine::event_loop::Owned;

/// Bytes that are collected before they are handed to the kernel.
const COLLECTED: usize = 48 * 1024;

impl Datagram {
    /// Keeps messages until the protocol was told of all that has come. False: there are too many, or no memory.
    ///
    /// # Safety
    /// Data and addresses of the messages are readable.
    pub(super) unsafe fn collect(&self, messages: &[Message]) -> bool {
        let [message] = messages else { return false };
        self.sending(|sending| {
            // SAFETY: by this function's contract.
            sending.backlog.size() + message.size < COLLECTED && unsafe { sending.backlog.push(message) }
        })
    }

    /// What the protocol sends is collected from now on, if nothing waits for room.
    pub(super) fn begin_collecting(&self) {
        if self.sending(|sending| sending.backlog.is_empty()) {
            self.set(COLLECTING);
        }
    }

    /// In a forked child: what was collected is the parent's to send.
    pub(super) fn forget_collected(&self) {
        if self.has(COLLECTING) {
            self.clear(COLLECTING);
            self.sending(|sending| sending.backlog.clear());
        }
    }

    /// Hands what was collected to the kernel, and collects no more. What it has no room for waits.
    pub(super) fn send_collected(&self, lp: &Owned) {
        if !self.has(COLLECTING) {
            return;
        }
        self.clear(COLLECTING);
        self.send_backlog(lp);
        if !self.has(LOSING) && !self.sending(|sending| sending.backlog.is_empty()) {
            self.update_interest(lp);
            self.consider_pausing(lp);
        }
    }
}
