//! Task groups (`asyncio.TaskGroup`): tasks that are waited for together, and cancelled when one of them fails.

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_void};
use std::sync::Arc;

use slab::Slab;

use super::combine::entered;
use super::future::{Future, FutureRef, Outcome};
use super::operation::{Operation, OperationRef, Work};
use super::outcome::free_box;
use super::task::{self, StepFn, Task};
use crate::engine::callback::FreeArg;
use crate::engine::context::{Captured, Word};
use crate::engine::event_loop::{EventLoop, Owned};
use crate::error::{self, Error, Result};

/// A task group. Used on its loop's thread, but for its references.
pub struct Group {
    /// Something of the loop's, which keeps its memory.
    anchor: FutureRef,
    /// The task that made it, which is cancelled when a task of the group fails before it is joined.
    parent: RefCell<Option<FutureRef>>,
    /// Those that are not done.
    tasks: RefCell<Slab<FutureRef>>,
    failed: RefCell<Vec<FutureRef>>,
    aborting: Cell<bool>,
    parent_cancelled: Cell<bool>,
    join: RefCell<Option<OperationRef<Join>>>,
    joined: Cell<bool>,
}

// SAFETY: what is in cells is touched by the loop's owner only, or dropped with the last reference.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

/// What a task's callback has.
struct Member {
    group: Arc<Group>,
    place: usize,
}

/// Waits for a group's tasks.
struct Join {
    group: Arc<Group>,
}

impl Work for Join {
    const NAME: &'static str = "TaskGroup";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        if let Some(group) = operation.with(|work| work.group.clone()) {
            group.abort(lp);
        }
        false
    }
}

impl Group {
    /// `TaskGroup.__aenter__`.
    pub(crate) fn create(lp: &Owned) -> Arc<Group> {
        // SAFETY: the reference is new; a current task is alive.
        let (anchor, parent) = unsafe { (FutureRef::from_raw(Future::create(lp)), task::current(lp).as_ref()) };
        Arc::new(Group {
            anchor,
            parent: RefCell::new(parent.map(|task| FutureRef::new(task.future()))),
            tasks: RefCell::new(Slab::new()),
            failed: RefCell::new(Vec::new()),
            aborting: Cell::new(false),
            parent_cancelled: Cell::new(false),
            join: RefCell::new(None),
            joined: Cell::new(false),
        })
    }

    pub(crate) fn event_loop(&self) -> *const EventLoop {
        self.anchor.event_loop()
    }

    /// `TaskGroup.create_task`. The reference is the caller's.
    pub(crate) fn create_task(
        self: &Arc<Self>,
        lp: &Owned,
        step: StepFn,
        arg: FreeArg,
        context: Captured,
    ) -> Result<*const Task> {
        if self.aborting.get() || self.joined.get() && self.tasks.borrow().is_empty() {
            return Err(Error::SHUT_DOWN.detail(|| "the task group is shutting down or finished".into()));
        }
        let made = Task::create(lp, step, arg, context)?;
        // SAFETY: it was made just now.
        let future = unsafe { (*made).future() };
        let place = self.tasks.borrow_mut().insert(FutureRef::new(future));
        let member = Box::into_raw(Box::new(Member { group: self.clone(), place }));
        let arg = FreeArg::new(member.cast(), Some(free_box::<Member>));
        future.add_done_callback(lp, task_done, arg, Captured::new(Word::NONE))?;
        Ok(made)
    }

    /// `TaskGroup.__aexit__`: a future that is done when the tasks are.
    pub(crate) fn join(self: &Arc<Self>, lp: &Owned) -> Result<FutureRef> {
        if self.joined.replace(true) {
            return Err(Error::INVALID_STATE.detail(|| "the task group was joined before".into()));
        }
        // From here on the join tells it: a result of the task's may hold the group.
        let parent = self.parent.borrow_mut().take();
        if self.parent_cancelled.replace(false)
            && let Some(task) = parent.as_deref().and_then(Task::from_future)
        {
            task.uncancel();
            task.forget_cancel();
        }
        let operation = Operation::begin(lp, Join { group: self.clone() });
        let future = FutureRef::new(operation.future());
        if self.tasks.borrow().is_empty() {
            operation.end(lp, self.outcome())?;
        } else {
            *self.join.borrow_mut() = Some(operation);
        }
        Ok(future)
    }

    /// The tasks that have failed, in the order in which they did.
    pub(crate) fn failed(&self) -> Vec<*const Task> {
        self.failed.borrow().iter().map(|task| std::ptr::from_ref(&**task).cast()).collect()
    }

    /// What the join ends with, which tells of every error.
    fn outcome(&self) -> Outcome {
        let failed = self.failed.borrow();
        failed.iter().for_each(|task| task.mark_retrieved());
        let Some(first) = failed.first() else { return Outcome::nothing() };
        let name = error::name(first.code()).to_string_lossy();
        let what = first.message().map_or(String::new(), |text| format!(": {}", text.to_string_lossy()));
        let text = format!("unhandled errors in a TaskGroup ({}), the first {name}{what}", failed.len());
        Outcome::failure(first.code(), CString::new(text).ok(), FreeArg::none())
    }

    /// Cancels what runs, and takes no more tasks.
    pub(crate) fn abort(&self, lp: &Owned) {
        self.aborting.set(true);
        let tasks: Vec<FutureRef> = self.tasks.borrow().iter().map(|(_, task)| FutureRef::new(task)).collect();
        for task in tasks {
            let _ = task.cancel(lp, Error::CANCELLED, None);
        }
    }

    fn task_done(&self, lp: &Owned, place: usize) {
        let gone = self.tasks.borrow_mut().try_remove(place);
        if let Some(task) = gone
            && task.has_failed()
        {
            self.failed.borrow_mut().push(task);
            if !self.aborting.get() {
                self.abort(lp);
                let parent = self.parent.borrow().as_deref().map(FutureRef::new);
                if let Some(parent) = parent {
                    self.parent_cancelled.set(true);
                    let _ = parent.cancel(lp, Error::CANCELLED, None);
                }
            }
        }
        if !self.tasks.borrow().is_empty() {
            return;
        }
        let join = self.join.borrow_mut().take();
        if let Some(join) = join {
            let outcome = self.outcome();
            // What the tasks failed with is told even when the join was cancelled.
            let _ = if self.failed.borrow().is_empty() {
                join.end(lp, outcome)
            } else {
                join.future().complete(lp, outcome)
            };
        }
    }
}

unsafe extern "C-unwind" fn task_done(task: *mut Future, member: *mut c_void) {
    // SAFETY: the callback has the member, and the task is alive while its callbacks are called.
    let (member, task) = unsafe { (&*member.cast_const().cast::<Member>(), &*task) };
    if let Some(lp) = entered(task) {
        member.group.task_done(&lp, member.place);
    }
}
