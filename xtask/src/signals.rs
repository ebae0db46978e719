//! What the process does when it is asked to end.

use std::sync::atomic::{AtomicBool, Ordering};

use mixflow::files::discard_unfinished;

use crate::terminal::{Result, note};

/// Set by the first SIGINT or SIGTERM where there is something to finish; the second one leaves at once.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

static FINISHES: AtomicBool = AtomicBool::new(false);

/// Ends the process when it is asked to, without halves of images and records. Under `nohup` it stays when its terminal closes.
pub(crate) fn end_on_signals() -> Result<()> {
    let stays = hangups_are_ignored();
    ctrlc::set_handler(|| {
        if !FINISHES.load(Ordering::Relaxed) || STOP.swap(true, Ordering::Relaxed) {
            discard_unfinished();
            std::process::exit(130);
        }
        note("\nstopping after this step; once more leaves at once without saving");
    })?;
    if stays {
        ignore_hangups();
    }
    Ok(())
}

/// Lets training finish its step and save before it ends.
pub(crate) fn stop_on_signals() {
    FINISHES.store(true, Ordering::Relaxed);
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "what is done with a signal is asked through C")]
fn hangups_are_ignored() -> bool {
    // SAFETY: a null pointer asks without setting anything, and `action` is plain data that the call fills.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "what is done with a signal is set through C")]
fn ignore_hangups() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn hangups_are_ignored() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangups() {}
