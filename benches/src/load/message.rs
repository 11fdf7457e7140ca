//! What the load sends, so that every byte of every answer can be checked.
//!
//! The one idea: the contents follow from the connection and the number of the message on it, so an answer that was
//! meant for another connection, an old one, or a byte lost or doubled is seen at once, and nothing has to be stored.
//! The first byte is left to the caller, because servers made for measuring take it as a command.

use polyloop_measure::stats::mix;

/// The first byte of a message nobody treats specially.
pub const PLAIN: u8 = b'.';

/// Writes message number `sequence` of `connection` into `buffer`.
pub fn fill(buffer: &mut [u8], command: u8, connection: u32, sequence: u64) {
    let mut word = mix(u64::from(connection) << 40 ^ sequence);
    for chunk in buffer.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        word = word.wrapping_add(STEP);
    }
    if let Some(first) = buffer.first_mut() {
        *first = command;
    }
}

/// Odd, so that the words of a message repeat only after 2^64 of them.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_by_connection_and_by_number() {
        // Goal: no two messages of a small world are equal, by writing all of them down.
        let mut seen = std::collections::BTreeSet::new();
        for connection in 0..50 {
            for sequence in 0..50 {
                let mut buffer = [0; 13];
                fill(&mut buffer, PLAIN, connection, sequence);
                assert_eq!(buffer[0], PLAIN);
                assert!(seen.insert(buffer));
            }
        }
    }
}
