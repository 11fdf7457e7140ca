//! The other end of a connection, in the hands of the test.

use crate::world::World;

/// A peer. It does what a program on another machine could do, at once.
#[derive(Debug)]
pub struct Client {
    pub(crate) world: World,
    pub(crate) id: u32,
}

impl Client {
    /// Sends as many of `bytes` as the window takes; returns how many.
    pub fn send(&self, bytes: &[u8]) -> usize {
        self.world.lock().send(self.id, bytes)
    }

    /// Takes what has arrived, at most `max` bytes.
    #[must_use]
    pub fn receive(&self, max: usize) -> Vec<u8> {
        self.world.lock().receive(self.id, max)
    }

    /// Finishes its half: FIN.
    pub fn finish(&self) {
        self.world.lock().finish(self.id);
    }

    /// Resets the connection.
    pub fn reset(&self) {
        self.world.lock().reset(self.id);
    }

    /// Breaks the connection behind what was sent: the server may read that, and finds the reset after it.
    pub fn break_off(&self) {
        self.world.lock().break_off(self.id);
    }

    /// Lets only so many bytes wait to be read.
    pub fn set_window(&self, bytes: usize) {
        if let Some(socket) = self.world.lock().sockets.get_mut(&self.id) {
            socket.window = bytes;
        }
    }

    /// Lets the server be told of room only when so many bytes of the window are free, as a kernel does with a third of its
    /// send buffer: a client that reads slowly is then silent for long, and reads all the same.
    pub fn set_edge_room(&self, bytes: usize) {
        if let Some(socket) = self.world.lock().sockets.get_mut(&self.id) {
            socket.edge_room = bytes.max(1);
        }
    }

    /// Whether everything the server sent has been taken and its FIN is next.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        let state = self.world.lock();
        state
            .sockets
            .get(&self.id)
            .is_some_and(|socket| socket.has_fin && socket.arrived.is_empty())
    }

    /// Whether the server reset the connection, or never took it.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        let state = self.world.lock();
        state
            .sockets
            .get(&self.id)
            .is_none_or(|socket| socket.error.is_some())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.world.lock().close(self.id, false);
    }
}
