//! What a loop has under way: whatever completes later, is kept by the loop until then, and is given up when it is closed.

use std::sync::Arc;

use slab::Slab;

use super::callback::FreeArg;
use super::event_loop::Owned;
use super::patience::Patience;
use super::spare::Spare;

/// Where a thing that is not under way stands.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Something that completes later. The loop owns a reference of it.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    /// The object.
    pub(crate) object: *const (),
    /// Gives the object up when the loop is closed, and with it the loop's reference. May call the host.
    pub(crate) abandon: unsafe fn(*const ()),
    /// Whether it is a task.
    pub(crate) is_task: bool,
}

/// How the host makes tasks: a function whose type the C surface knows.
pub struct TaskFactory {
    /// The host's function.
    pub function: *const (),
    /// What it is called with.
    pub arg: FreeArg,
}

// SAFETY: a function and an arg that the host lets travel with the loop; only the loop's owner uses them.
unsafe impl Send for TaskFactory {}
// SAFETY: as above.
unsafe impl Sync for TaskFactory {}

/// What runs jobs for which no executor is named: an object that the loop owns a reference of.
#[derive(Clone, Copy)]
pub(crate) struct DefaultExecutor {
    /// The object.
    pub(crate) object: *const (),
    /// The loop is closed: shuts the executor down, without waiting, and gives the reference up. May call the host.
    pub(crate) close: unsafe fn(*const ()),
}

/// All of them.
pub(crate) struct Operations {
    list: Slab<Operation>,
    /// The task whose step is on the stack, or NULL.
    pub(crate) current_task: *const (),
    /// How many tasks have a cancel pass through them at the moment.
    pub(crate) cancels: u32,
    /// Counts the beginnings and ends of runs until a future is done: odd during one.
    pub(crate) run: usize,
    /// How many tasks were made: each has a number.
    pub(crate) tasks_made: u64,
    // Shared with the call that is under way: it may replace it, and its arg is released after it.
    pub(crate) task_factory: Option<Arc<TaskFactory>>,
    /// Memory for futures.
    pub(crate) spare: Spare,
    pub(crate) executor: Option<DefaultExecutor>,
    /// The default executor was shut down, and is not made again.
    pub(crate) executor_is_shut: bool,
    /// How many jobs are with executors, and whether it pays to look for their results before sleeping.
    pub(crate) jobs: usize,
    pub(crate) patience: Patience,
}

impl Operations {
    pub(crate) const fn new() -> Self {
        Operations {
            list: Slab::new(),
            current_task: std::ptr::null(),
            cancels: 0,
            run: 0,
            tasks_made: 0,
            task_factory: None,
            spare: Spare::new(),
            executor: None,
            executor_is_shut: false,
            jobs: 0,
            patience: Patience::new(),
        }
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> Vec<Operation> {
        self.list.drain().collect()
    }

    /// What is abandoned by that function.
    pub(crate) fn of(&self, abandon: unsafe fn(*const ())) -> impl Iterator<Item = *const ()> + '_ {
        let all = self.list.iter().filter(move |(_, operation)| std::ptr::fn_addr_eq(operation.abandon, abandon));
        all.map(|(_, operation)| operation.object)
    }

    /// The tasks that are not done.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = *const ()> + '_ {
        self.list.iter().filter(|(_, operation)| operation.is_task).map(|(_, operation)| operation.object)
    }
}

impl Owned<'_> {
    pub(crate) fn task_factory(&self) -> Option<Arc<TaskFactory>> {
        self.with(|state| state.operations.task_factory.clone())
    }

    /// `loop.set_task_factory`.
    pub(crate) fn set_task_factory(&self, factory: Option<Arc<TaskFactory>>) {
        // What was there is dropped outside of the borrow: its arg is released by the host.
        drop(self.with(|state| std::mem::replace(&mut state.operations.task_factory, factory)));
    }

    /// Has the loop keep an operation, whose reference it takes over. Returns where it stands.
    pub(crate) fn begin(&self, operation: Operation) -> u32 {
        self.with(|state| state.operations.list.insert(operation)) as u32
    }

    /// The operation is complete: the reference the loop had is the caller's.
    pub(crate) fn end_operation(&self, place: u32) {
        self.with(|state| state.operations.list.try_remove(place as usize));
    }
}
