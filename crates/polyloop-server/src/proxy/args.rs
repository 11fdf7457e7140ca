//! The command line of `polyloop proxy` and `polyloop check`, as it was typed.
//!
//! The one idea: the flags of the server are those of `echo`, in its own type; the proxy's own come from the table in
//! [`flags`](super::flags), each checked as it is typed by what reads the same setting in a file.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::flags::{FLAGS, Takes};
use super::value::Value;
use crate::args::ServeArgs;

/// The flags of the proxy.
#[derive(Debug, Default)]
pub(crate) struct ProxyArgs {
    /// The flags that `echo` has too.
    pub(crate) serve: ServeArgs,
    /// The others: the place in [`FLAGS`], and what was typed.
    pub(crate) given: Vec<(usize, Value)>,
    /// The file that they are laid over.
    pub(crate) config: Option<PathBuf>,
    /// Whether to print the settings instead of serving.
    pub(crate) print_config: bool,
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The TOML file to check, as given to polyloop proxy --config
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

impl Args for ProxyArgs {
    fn augment_args(command: Command) -> Command {
        let mut command = command.args(settings_args());
        for flag in FLAGS {
            let mut arg = Arg::new(flag.name)
                .long(flag.name)
                .help_heading(flag.heading);
            let (short_help, _) = flag.help.split_once("\n\n").unwrap_or((flag.help, ""));
            arg = arg.help(short_help);
            if short_help.len() < flag.help.len() {
                arg = arg.long_help(flag.help);
            }
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            arg = match flag.takes {
                Takes::Nothing(_) => arg.action(ArgAction::SetTrue),
                Takes::One(name) => arg.value_name(name).value_parser(checked(flag)),
                Takes::Many(name) => arg
                    .value_name(name)
                    .action(ArgAction::Append)
                    .num_args(1..)
                    .value_parser(checked(flag)),
            };
            command = command.arg(arg);
        }
        ServeArgs::augment_args(command)
            .mut_arg("fail-open", |arg| arg.conflicts_with("fail-closed"))
            .mut_arg("hold-ack", |arg| arg.conflicts_with("no-hold-ack"))
            .mut_arg("listen", |arg| {
                arg.short('l')
                    .display_order(0)
                    .long_help(Resettable::Reset)
                    .help(LISTEN_HELP)
            })
            .mut_arg("idle_timeout", |arg| arg.help(IDLE_HELP))
            .mut_arg("buffer_high", |arg| {
                arg.help(BUFFER_HELP).help_heading("Moving bytes")
            })
            .mut_arg("max_connections", |arg| arg.help(CONNECTIONS_HELP))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ProxyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for (index, flag) in FLAGS.iter().enumerate() {
            let typed = match flag.takes {
                Takes::Nothing(_) => matches.get_flag(flag.name).then(Vec::new),
                Takes::One(_) | Takes::Many(_) => matches
                    .get_many::<String>(flag.name)
                    .map(|typed| typed.cloned().collect()),
            };
            if let Some(typed) = typed {
                given.push((index, flag.value(typed)));
            }
        }
        Ok(Self {
            serve: ServeArgs::from_arg_matches(matches)?,
            given,
            config: matches.get_one::<PathBuf>("config").cloned(),
            print_config: matches.get_flag("print-config"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn settings_args() -> [Arg; 2] {
    [
        Arg::new("config")
            .long("config")
            .short('c')
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help_heading("Settings")
            .help(
                "Read settings from this TOML file; flags come before it. polyloop check FILE tells what is wrong with \
                 it [default: none, everything can be said by flags but several listeners and groups]",
            ),
        Arg::new("print-config")
            .long("print-config")
            .action(ArgAction::SetTrue)
            .help_heading("Settings")
            .help(
                "Print the settings in force as such a file, each with where it came from, instead of serving",
            ),
    ]
}

/// Judges a text as it is typed.
fn checked(
    flag: &'static super::flags::Flag,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    |text| flag.check(text).map(|()| text.to_owned())
}

/// Examples and the rest below the flags.
pub(crate) const EXAMPLES: &str = "\
Examples:
  polyloop proxy
          stand before an embedded echo on port 7000 of this host
  polyloop proxy -l :5432 -t db1:5432 -t db2:5432 --balance least --check connect
          a pair of databases for everybody, the idler first, a dead one left out
  polyloop proxy -l :443 -t 10.0.0.1:443,weight=3 -t 10.0.0.2:443 -t spare:443,backup --send-proxy v2
          weights, a spare, and the client's address told to the backends
  polyloop proxy --config proxy.toml --idle-timeout 10m --print-config
          what would be in force, and where each value comes from

Sizes: 4096, 64k, 64KiB. Times: 50us, 100ms, 30s, 10m. Counts: 512, 10k. Rates: 100/s, 1k/s,burst=5k.
A flag NAME is the key NAME of the file: server-wide ones in [server] and [limits], the others in [[listener]] and
[[group]]. Several listeners and groups, routes by SNI and ALPN, and limits per listener stand in the file alone; a flag
about a listener or a group needs that there is one.

Signals:
  SIGTERM, SIGINT  accept no more, wait for sessions until --drain, then close; a second one stops at once
  SIGUSR1          print every counter to standard error

Exit codes:
  0  every session ended by itself
  1  the server could not start, or a loop died
  2  the command line or the file is wrong
  3  sessions were cut: at the drain's deadline, or by a second signal";

/// What `check` ends with.
pub(crate) const CHECK_CODES: &str = "\
Each mistake is told as FILE:LINE:COLUMN with its line, all of them in one run.

Exit codes:
  0  the file is fine
  2  it is not, or cannot be read";

const LISTEN_HELP: &str = "Addresses to serve: 127.0.0.1:5432, [::1]:5432, :5432 (everybody, IPv6 and IPv4), \
unix:/run/proxy.sock; may be repeated [default: 127.0.0.1:7000, this host only, so that nothing is exposed by accident]";
const IDLE_HELP: &str = "Close a session on which no byte moved for this long, or off [default: 1h, as pools keep \
connections idle for long, and peers that vanished must not stay for ever]";
const BUFFER_HELP: &str = "Bytes kept per direction above which the sender is no longer read; reading goes on at half \
[default: 64KiB, one full read]";
const CONNECTIONS_HELP: &str = "Connections of clients open at once, as in 10k [default: all that fit under the limit \
of open files; a session takes two]";

#[cfg(test)]
mod tests;
