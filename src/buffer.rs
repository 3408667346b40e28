//! A fixed stretch of octets between a socket and a session: filled at the end, taken from the start.
//!
//! The octets lie in one table for all sessions (untouched slots cost no memory); the [`Window`] lies in the
//! slot; a [`Buffer`] puts the two together while somebody works on them. A full buffer is all the flow
//! control there is.

/// Which part of a slot's octets is in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    start: u32,
    end: u32,
}

impl Window {
    /// True when no octet is in use.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The octets in use of the slot that `octets` begins with.
    pub fn of<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        &octets[self.start as usize..self.end as usize]
    }
}

/// A slot's octets with their window. Nothing here allocates or grows.
#[derive(Debug)]
pub struct Buffer<'a> {
    octets: &'a mut [u8],
    window: &'a mut Window,
}

impl<'a> Buffer<'a> {
    /// The buffer over `octets`, of which `window` is in use.
    pub fn new(octets: &'a mut [u8], window: &'a mut Window) -> Self {
        assert!(window.start <= window.end && window.end as usize <= octets.len());
        Self { octets, window }
    }

    /// The octets in use.
    pub fn octets(&self) -> &[u8] {
        &self.octets[self.window.start as usize..self.window.end as usize]
    }

    /// The octets in use, to be changed in place.
    pub fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.window.start as usize..self.window.end as usize]
    }

    /// Octets in use.
    pub fn len(&self) -> usize {
        (self.window.end - self.window.start) as usize
    }

    /// True when no octet is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many octets fit in still.
    pub fn room(&self) -> usize {
        self.octets.len() - self.len()
    }

    /// Takes `count` octets off the start; at most [`Buffer::len`].
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len());
        self.window.start += count as u32;
        if self.window.start == self.window.end {
            *self.window = Window::default();
        }
    }

    /// The free stretch at the end, all the room there is; call [`Buffer::filled`] with what was put in.
    pub fn space(&mut self) -> &mut [u8] {
        if self.window.start > 0 {
            self.octets.copy_within(self.window.start as usize..self.window.end as usize, 0);
            self.window.end -= self.window.start;
            self.window.start = 0;
        }
        &mut self.octets[self.window.end as usize..]
    }

    /// [`Buffer::space`] for as long as the octets live.
    pub fn into_space(mut self) -> &'a mut [u8] {
        self.space();
        &mut self.octets[self.window.end as usize..]
    }

    /// The first `count` octets of [`Buffer::space`] are in use from now on.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.octets.len() - self.window.end as usize);
        self.window.end += count as u32;
    }

    /// Appends `octets`, for which there must be room: look at [`Buffer::room`] before.
    pub fn append(&mut self, octets: &[u8]) {
        self.space()[..octets.len()].copy_from_slice(octets);
        self.filled(octets.len());
    }

    /// Takes everything off.
    pub fn clear(&mut self) {
        *self.window = Window::default();
    }
}

impl core::fmt::Write for Buffer<'_> {
    /// Fails when there is not room for all of `text`; then nothing of it was appended.
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if text.len() > self.room() {
            return Err(core::fmt::Error);
        }
        self.append(text.as_bytes());
        Ok(())
    }
}
