//! Jobs that wait, linked through themselves: first come first, and any can be taken out.

use std::ptr;

use super::job::Job;

/// Jobs that wait in a pool, touched under its lock. The list has a reference of each.
pub(super) struct Waiting {
    first: *const Job,
    last: *const Job,
}

impl Waiting {
    pub(super) const fn new() -> Self {
        Waiting { first: ptr::null(), last: ptr::null() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Who came first, or NULL.
    pub(super) fn first(&self) -> *const Job {
        self.first
    }

    /// Takes jobs over, of which the last one comes first.
    pub(super) fn append(&mut self, newest: *mut Job) {
        let mut next: *const Job = ptr::null();
        let mut job: *const Job = newest;
        let before = self.last;
        if !job.is_null() {
            self.last = job;
        }
        // SAFETY: a reference of each is the queue's from here on; links are touched under the lock.
        unsafe {
            while let Some(this) = job.as_ref() {
                let older = this.next.replace(next);
                this.previous.set(if older.is_null() { before } else { older });
                this.is_queued.set(true);
                next = job;
                job = older;
            }
            match before.as_ref() {
                Some(before) if !next.is_null() => before.next.set(next),
                Some(_) => {}
                None => self.first = next,
            }
        }
    }

    /// Takes a job out. Its reference is the caller's.
    pub(super) fn unlink(&mut self, job: &Job) {
        let (next, previous) = (job.next.get(), job.previous.get());
        // SAFETY: the queue has a reference of each.
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.first = next,
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
                None => self.last = previous,
            }
        }
        job.is_queued.set(false);
    }
}
