//! Context variables (`contextvars`).

use std::ffi::{c_char, c_int, c_void};

use super::guard::{guard, release};
use super::handle::{evl_callback, evl_free_fn};
use super::{options, own};
use crate::engine::callback::FreeArg;
use crate::engine::context::{self, Context, Token, Var};
use crate::engine::event_loop::Hooks;
use crate::error::{Error, Result};

/// A mapping of context variables to values, as contextvars.Context. Opaque; reference counted.
pub type evl_context = Context;
/// A context variable, as contextvars.ContextVar. Opaque; reference counted.
pub type evl_context_var = Var;
/// What a set undoes by, as contextvars.Token. Opaque; reference counted.
pub type evl_context_token = Token;

/// Hooks by which a host language carries its own notion of context along with every callback of a loop.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct evl_context_hooks {
    /// sizeof(evl_context_hooks) as the caller knows it.
    pub size: u32,
    /// Always zero.
    pub reserved: u32,
    /// Called by every scheduling call, on its thread: returns what release will get, exactly once. Must not be
    /// NULL.
    pub capture: Option<unsafe extern "C-unwind" fn(data: *mut c_void) -> *mut c_void>,
    /// Called before every call of the callback. May be NULL.
    pub enter: Option<unsafe extern "C-unwind" fn(data: *mut c_void, captured: *mut c_void)>,
    /// Called after every call of the callback. May be NULL.
    pub leave: Option<unsafe extern "C-unwind" fn(data: *mut c_void, captured: *mut c_void)>,
    /// Releases what capture returned. May be NULL. It may be called on the thread that drops the last
    /// reference.
    pub release: Option<unsafe extern "C-unwind" fn(data: *mut c_void, captured: *mut c_void)>,
}

/// Reads the hooks of a loop's options; none when the pointer is NULL.
///
/// # Safety `hooks` is NULL or points to a table that begins with its size.
pub(super) unsafe fn read_hooks(hooks: *const evl_context_hooks, data: *mut c_void) -> Result<Option<Hooks>> {
    if hooks.is_null() {
        return Ok(None);
    }
    // SAFETY: by this function's contract.
    let table: evl_context_hooks = unsafe { options::read(hooks) }?;
    if table.reserved != 0 {
        return Err(Error::OPTIONS);
    }
    let capture = table.capture.ok_or(Error::OPTIONS)?;
    Ok(Some(Hooks { capture, enter: table.enter, leave: table.leave, release: table.release, data }))
}

/// Makes a context variable: contextvars.ContextVar(name, default=...). name is copied, and may be NULL.
///
/// default_value NULL means that there is no default; default_free (may be NULL) releases it with the variable,
/// or when this function fails. *out is yours. Any thread. Errors: -EINVAL (out is NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_new(
    name: *const c_char,
    default_value: *mut c_void,
    default_free: evl_free_fn,
    out: *mut *mut evl_context_var,
) -> c_int {
    let default_value = FreeArg::new(default_value, default_free);
    // SAFETY: name is NULL or NUL-terminated; out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, Var::create(own::text(name), default_value));
        Ok(0)
    })
}

/// Takes another reference and returns var. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_ref(var: *mut evl_context_var) -> *mut evl_context_var {
    // SAFETY: a live variable or NULL, as documented.
    unsafe { own::retain_arc(var) }
}

/// Gives a reference back; NULL is ignored. Contexts in which it has a value keep it. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_unref(var: *mut evl_context_var) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(var) });
}

/// The variable's name, copied as evl_handle_repr does; empty when it has none. Any thread. Errors: -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_name(
    var: *const evl_context_var,
    buffer: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: a live variable or NULL; buffer has size writable bytes.
    guard(|| unsafe { own::fill(buffer, size, own::borrow(var)?.name()) })
}

/// The variable's value in the current context, or else its default: ContextVar.get.
///
/// *value is borrowed: valid while the current context has it. Any thread. Errors: EVL_ENOVALUE, -EINVAL
/// (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_get(var: *mut evl_context_var, value: *mut *mut c_void) -> c_int {
    // SAFETY: a live variable or NULL; value is writable or NULL.
    guard(|| unsafe {
        own::required(value)?;
        own::put(value, context::get(own::borrow(var)?)?)
    })
}

/// Sets the variable in the current context: ContextVar.set. Other contexts, and copies made before, do not see
/// it.
///
/// value_free (may be NULL) runs exactly once, when no context and no token has the value any more, or when
/// this function fails. out may be NULL; else *out is a token of yours by which evl_context_var_reset undoes
/// this. Any thread. Errors: -EINVAL (NULL var).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_set(
    var: *mut evl_context_var,
    value: *mut c_void,
    value_free: evl_free_fn,
    out: *mut *mut evl_context_token,
) -> c_int {
    let value = FreeArg::new(value, value_free);
    // SAFETY: a live variable or NULL; out is writable or NULL.
    guard(|| unsafe {
        let token = context::set(&own::clone_arc(var).ok_or(Error::INVALID)?, value, !out.is_null())?;
        if let Some(token) = token {
            own::give_arc(out, token);
        }
        Ok(0)
    })
}

/// Puts the variable back to what it was before the set that made token: ContextVar.reset. A token works once,
/// and in the context it was made in.
///
/// Any thread. Errors: EVL_ETOKEN, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_var_reset(
    var: *mut evl_context_var,
    token: *mut evl_context_token,
) -> c_int {
    // SAFETY: live objects or NULL, as documented.
    guard(|| unsafe {
        let var = own::clone_arc(var).ok_or(Error::INVALID)?;
        context::reset(&var, own::borrow(token)?).map(|()| 0)
    })
}

/// The variable a token is of: Token.var. Borrowed, valid as long as the token. NULL for NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_token_get_var(token: *const evl_context_token) -> *mut evl_context_var {
    // SAFETY: a live token or NULL, as documented.
    unsafe { token.as_ref() }.map_or(std::ptr::null_mut(), |t| t.var().cast_mut())
}

/// The value before the set: Token.old_value. Borrowed, valid as long as the token. Any thread. Errors:
/// EVL_ENOVALUE (Token.MISSING), -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_token_old_value(
    token: *const evl_context_token,
    value: *mut *mut c_void,
) -> c_int {
    // SAFETY: a live token or NULL; value is writable or NULL.
    guard(|| unsafe {
        own::required(value)?;
        own::put(value, own::borrow(token)?.old_value().ok_or(Error::NO_VALUE)?)
    })
}

/// Takes another reference and returns token. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_token_ref(token: *mut evl_context_token) -> *mut evl_context_token {
    // SAFETY: a live token or NULL, as documented.
    unsafe { own::retain_arc(token) }
}

/// Gives a reference back; NULL is ignored. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_token_unref(token: *mut evl_context_token) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(token) });
}

/// Makes an empty context: contextvars.Context(). *out is yours. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_new(out: *mut *mut evl_context) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, Context::empty());
        Ok(0)
    })
}

/// Makes a context with the values of another: Context.copy. It costs a reference, however many values there
/// are. *out is yours. Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_copy(context: *mut evl_context, out: *mut *mut evl_context) -> c_int {
    // SAFETY: a live context or NULL; out is writable or NULL.
    guard(|| unsafe {
        let context = own::borrow(context)?;
        own::required(out)?;
        own::give_arc(out, context.copy());
        Ok(0)
    })
}

/// Makes a context with the values of the current one: contextvars.copy_context. *out is yours. Any thread.
/// Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_copy_current(out: *mut *mut evl_context) -> c_int {
    // SAFETY: out is writable or NULL.
    guard(|| unsafe {
        own::required(out)?;
        own::give_arc(out, context::copy_current());
        Ok(0)
    })
}

/// Calls callback(arg) at once, on this thread, with context as the current one: Context.run. What it sets
/// stays in context.
///
/// Outside of the loop's callbacks evl_raise is not to be had in callback. A context is entered once at a time.
/// Any thread. Errors: EVL_EENTERED, -EINVAL (NULL context or callback).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_run(
    context: *mut evl_context,
    callback: evl_callback,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: a live context or NULL, as documented.
    guard(|| unsafe {
        let context = own::borrow(context)?;
        context::run(context, callback.ok_or(Error::INVALID)?, arg).map(|()| 0)
    })
}

/// Makes context the current one of this thread until evl_context_exit: PyContext_Enter, for bindings that
/// cannot use evl_context_run. evl holds a reference meanwhile.
///
/// A callback exits what it entered before it returns; evl does it where it did not. Any thread. Errors:
/// EVL_EENTERED, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_enter(context: *mut evl_context) -> c_int {
    // SAFETY: a live context or NULL, as documented.
    guard(|| unsafe { context::enter(&own::clone_arc(context).ok_or(Error::INVALID)?).map(|()| 0) })
}

/// Leaves context, which must be the last one entered on this thread: PyContext_Exit.
///
/// Any thread. Errors: EVL_ENOTENTERED, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_exit(context: *mut evl_context) -> c_int {
    // SAFETY: a live context or NULL, as documented.
    guard(|| unsafe { context::exit(own::borrow(context)?).map(|()| 0) })
}

/// The value of var in context, whatever is current: `context[var]`. Defaults do not count.
///
/// *value is borrowed: valid while context has it. Any thread. Errors: EVL_ENOVALUE, -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_get(
    context: *mut evl_context,
    var: *mut evl_context_var,
    value: *mut *mut c_void,
) -> c_int {
    // SAFETY: live objects or NULL; value is writable or NULL.
    guard(|| unsafe {
        own::required(value)?;
        own::put(value, own::borrow(context)?.get(own::borrow(var)?).ok_or(Error::NO_VALUE)?)
    })
}

/// How many variables have a value in context: len(context). Any thread. Errors: -EINVAL (NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_size(context: *mut evl_context, size: *mut usize) -> c_int {
    // SAFETY: a live context or NULL; size is writable or NULL.
    guard(|| unsafe { own::put(size, own::borrow(context)?.len()) })
}

/// Takes another reference and returns context. NULL gives NULL. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_ref(context: *mut evl_context) -> *mut evl_context {
    // SAFETY: a live context or NULL, as documented.
    unsafe { own::retain_arc(context) }
}

/// Gives a reference back; NULL is ignored. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn evl_context_unref(context: *mut evl_context) {
    // SAFETY: the caller owns a reference and gives it up, or passes NULL.
    release(|| unsafe { own::release_arc(context) });
}
