//! `polyloop proxy` and `polyloop check`: settings from flags and a file.
//!
//! ```text
//!   args, flags (typed) \
//!                        draft (values with origins) -> check -> resolve::Effective -> run, or print
//!   file (TOML)         /      keys: one table for all of it
//! ```
//!
//! The one idea: a setting is one line in [`keys`], and everything else (the file, its flag, suggestions, what
//! `--print-config` shows) follows from it. What is wrong is collected and told at once, each at its place.

mod access_log;
pub(crate) mod args;
mod check;
mod codec;
mod conn;
mod diagnostic;
mod draft;
mod file;
mod flags;
mod keys;
mod names;
mod origin;
mod print;
mod resolve;
mod resolver;
mod run;
mod suggest;
mod target;
#[cfg(test)]
mod testing;
mod texts;
mod value;

use std::io::{self, Write as _};

use args::{CheckArgs, ProxyArgs};

use crate::exit::Exit;

/// `polyloop proxy`.
pub(crate) fn proxy(args: ProxyArgs) -> Exit {
    let prints = args.print_config;
    let effective = match resolve::resolve(args) {
        Ok(effective) => effective,
        Err(refusal) => {
            say(&refusal.report);
            return Exit::Usage;
        }
    };
    say(&effective.warnings);
    if prints {
        return tell(&print::print(&effective));
    }
    run::run(effective)
}

/// `polyloop check FILE`.
pub(crate) fn check(args: CheckArgs) -> Exit {
    let path = args.file.display().to_string();
    let args = ProxyArgs {
        config: Some(args.file),
        ..ProxyArgs::default()
    };
    match resolve::resolve(args) {
        Ok(effective) => {
            say(&effective.warnings);
            let backends = effective
                .proxy
                .groups
                .iter()
                .map(|group| group.backends.len())
                .sum();
            let mut parts = vec![
                counted(effective.proxy.listeners.len(), "listener"),
                counted(effective.proxy.groups.len(), "group"),
                counted(backends, "backend"),
            ];
            if effective.warnings_count > 0 {
                parts.push(counted(effective.warnings_count, "warning"));
            }
            tell(&format!("{path}: fine: {}\n", parts.join(", ")))
        }
        Err(refusal) => {
            say(&refusal.report);
            let mut parts = vec![counted(refusal.errors, "error")];
            if refusal.warnings > 0 {
                parts.push(counted(refusal.warnings, "warning"));
            }
            say(&format!("{path}: {}\n", parts.join(", ")));
            Exit::Usage
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// To standard error, which may be closed: that changes nothing about the exit code.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What was asked for, to standard output.
fn tell(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Clean,
        Err(error) => {
            drop(out);
            say(&format!(
                "error: standard output cannot be written to: {error}\n"
            ));
            Exit::Failed
        }
    }
}
