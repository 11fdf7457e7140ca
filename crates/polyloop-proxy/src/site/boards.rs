//! Counters that one loop owns and anybody may read: of what it has done with a backend, and for a listener.

use polyloop::telemetry::Counter;

/// Declares counters of one loop with names and help texts.
macro_rules! board {
    ($(#[$doc:meta])* $board:ident: $($name:ident: $help:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $board {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl $board {
            /// Every counter: name, help, value.
            pub fn each(&self, tell: &mut dyn FnMut(&'static str, &'static str, u64)) {
                $(tell(stringify!($name), $help, self.$name.value());)*
            }
        }
    };
}

board! {
    /// What one loop has done with one backend. Only that loop writes it.
    BackendBoard:
    chosen: "Times it was chosen.",
    connected: "Connections made to it.",
    connect_refused: "Connections that it refused, or that broke while they were made.",
    connect_timeouts: "Connections that were not made in time.",
    connect_local: "Connections that failed for want of a port, a descriptor or memory on this side.",
    retried: "Sessions that went to another backend after it had failed them.",
    ended: "Sessions that ended after they had its connection.",
    resets: "Sessions that it reset.",
    bytes_up: "Bytes from clients to it.",
    bytes_down: "Bytes from it to clients.",
}

board! {
    /// What one loop has done for one listener. Only that loop writes it.
    ListenerBoard:
    sessions: "Sessions begun.",
    refused_access: "Sessions refused by allow and deny lists.",
    refused_limit: "Sessions refused by a limit of connections or of new connections per second.",
    refused_header: "Sessions refused because their PROXY header was missing, bad, late or from somebody who may not send one.",
    refused_hello: "Sessions refused because their TLS hello was bad or late, or no route matched it.",
    refused_backend: "Sessions refused because no backend could be had.",
    refused_queue: "Sessions refused because too many waited for a backend, or they waited too long.",
    queued: "Sessions that waited for a backend below its cap.",
    spliced: "Directions that were spliced.",
}
