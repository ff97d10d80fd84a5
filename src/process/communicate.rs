//! Waiting for a process, and `communicate`: input in, output and error out, until all is over.

use std::ffi::{CString, c_int, c_void};

use super::subprocess::{Process, ProcessRef};
use crate::engine::callback::FreeArg;
use crate::engine::event_loop::Owned;
use crate::error::{self, Error, Result};
use crate::net::transport::TransportRef;
use crate::task::future::{Outcome, Shape};
use crate::task::operation::{Operation, OperationRef, Work};

/// What waits for a child's end.
pub(crate) struct Wait {
    process: ProcessRef,
}

/// What a process has written.
#[derive(Default)]
pub(crate) struct Output {
    /// To its output, and to its error.
    pub(crate) streams: [Vec<u8>; 2],
}

/// What collects that.
pub(crate) struct Communicate {
    process: ProcessRef,
    output: Output,
    /// Which pipe could not be read or written, and why.
    failure: Option<(usize, c_int)>,
}

impl Work for Wait {
    const NAME: &'static str = "ProcessWait";

    fn cancel(_: &Owned, operation: &Operation<Self>) -> bool {
        let process = operation.with(|work| ProcessRef::new(&work.process));
        if let Some(process) = process {
            // SAFETY: the owner's; what is taken out is dropped after.
            let waiters = unsafe { &mut *process.waiters.get() };
            let at = waiters.iter().position(|waiter| std::ptr::eq(&**waiter, operation));
            drop(at.map(|at| waiters.swap_remove(at)));
        }
        true
    }
}

impl Work for Communicate {
    const NAME: &'static str = "ProcessCommunicate";

    fn cancel(lp: &Owned, operation: &Operation<Self>) -> bool {
        let process = operation.with(|work| ProcessRef::new(&work.process));
        if let Some(process) = process {
            // SAFETY: the owner's.
            drop(unsafe { (*process.collector.get()).take() });
            process.stop_collecting(lp);
        }
        true
    }
}

impl Process {
    /// `Process.wait`.
    pub(crate) fn wait(&self, lp: &Owned) -> Result<OperationRef<Wait>> {
        let operation = Operation::begin(lp, Wait { process: ProcessRef::new(self) });
        match self.returncode() {
            Some(code) => operation.end(lp, Outcome::number(i64::from(code)))?,
            // SAFETY: the owner's.
            None => unsafe { (*self.waiters.get()).push(OperationRef::new(&operation)) },
        }
        Ok(operation)
    }

    /// The child has ended.
    pub(super) fn end_waiters(&self, lp: &Owned, code: i64) {
        // SAFETY: the owner's; taken out before anything else runs.
        for waiter in unsafe { std::mem::take(&mut *self.waiters.get()) } {
            let _ = waiter.end(lp, Outcome::number(code));
        }
    }

    /// `Process.communicate`. The input is evl's until the future is done.
    pub(crate) fn communicate(
        &self,
        lp: &Owned,
        input: *const c_void,
        size: usize,
    ) -> Result<OperationRef<Communicate>> {
        // SAFETY: the owner's.
        if unsafe { (*self.collector.get()).is_some() } {
            return Err(Error::INVALID_STATE.detail(|| "the process is being communicated with already".into()));
        }
        let stdin = self.pipe(0).map(TransportRef::new);
        if stdin.is_none() && size > 0 {
            return Err(Error::INVALID.detail(|| "the process has no pipe for its input".into()));
        }
        let operation = Operation::begin(
            lp,
            Communicate { process: ProcessRef::new(self), output: Output::default(), failure: None },
        );
        if self.is_over() {
            operation.end(lp, Outcome::object(Shape::Output, Output::default()))?;
            return Ok(operation);
        }
        // SAFETY: the owner's; there was none.
        unsafe { *self.collector.get() = Some(OperationRef::new(&operation)) };
        if let Some(stdin) = stdin {
            // A child that does not read its input is no failure of this.
            if !stdin.is_closing() && size > 0 {
                let _ = stdin.write_owned(lp, input, size, FreeArg::none());
            }
            stdin.close(lp);
        }
        for number in [1, 2] {
            if let Some(pipe) = self.pipe(number) {
                pipe.resume_reading(lp)?;
            }
        }
        Ok(operation)
    }

    /// Takes what the child has written, if somebody collects it.
    pub(super) fn collect(&self, number: c_int, bytes: &[u8]) -> bool {
        // SAFETY: the owner's.
        let Some(collector) = (unsafe { &*self.collector.get() }) else { return false };
        let kept = collector.with(|work| {
            let stream = &mut work.output.streams[usize::from(number == 2)];
            stream.try_reserve(bytes.len()).map(|()| stream.extend_from_slice(bytes)).is_ok()
        });
        if kept == Some(false) {
            // SAFETY: as above; a process keeps its loop's memory.
            let (collector, event_loop) = unsafe { ((*self.collector.get()).take(), &*self.event_loop()) };
            if let (Some(collector), Ok(lp)) = (collector, event_loop.enter()) {
                self.stop_collecting(&lp);
                let _ = collector.end(&lp, Outcome::error(Error::NO_MEMORY));
            }
        }
        true
    }

    /// All is over.
    pub(super) fn end_collector(&self, lp: &Owned) {
        // SAFETY: the owner's.
        let Some(collector) = (unsafe { (*self.collector.get()).take() }) else { return };
        let taken = collector.with(|work| (std::mem::take(&mut work.output), work.failure.take()));
        let (output, failure) = taken.unwrap_or_default();
        let outcome = match failure {
            Some((number, code)) => {
                let what = ["stdin", "stdout", "stderr"].get(number).copied().unwrap_or("a pipe");
                let why = error::describe(code).to_string_lossy();
                let text = CString::new(format!("communicate: {what}: {why}")).ok();
                Outcome::failure(code, text, FreeArg::none())
            }
            None => Outcome::object(Shape::Output, output),
        };
        let _ = collector.end(lp, outcome);
    }

    /// A pipe is lost: what could not be read or written fails who communicates. A child that does not read its input is no failure.
    pub(super) fn note_lost(&self, number: c_int, code: c_int) {
        let harmless = code >= 0 || number == 0 && matches!(-code, libc::EPIPE | libc::ECONNRESET);
        // SAFETY: the owner's.
        if let Some(collector) = unsafe { &*self.collector.get() }
            && !harmless
        {
            collector.with(|work| {
                work.failure.get_or_insert((usize::try_from(number).unwrap_or(3), code));
            });
        }
    }

    /// The caller's input must not be touched any more, and nobody takes what is read.
    fn stop_collecting(&self, lp: &Owned) {
        if let Some(stdin) = self.pipe(0)
            && stdin.copy_queue().is_err()
        {
            stdin.force_close(lp, Error::NO_MEMORY.code());
        }
        if !self.has_protocol() {
            for pipe in [1, 2].into_iter().filter_map(|number| self.pipe(number)) {
                let _ = pipe.pause_reading(lp);
            }
        }
    }
}
