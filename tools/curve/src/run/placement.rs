//! Which cores the server has, and which the generator.
//!
//! The one idea: cores of their own where there are enough, and the same for every point of a sweep, so that points
//! differ in what the sweep varies. Where there are not enough both have all, and it is said: cost per request is then
//! what the points can tell, and throughput is not.

use polyloop_core::cores::CoreList;

/// The cores of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Those of the server, in order; a point with fewer loops has the first of them.
    pub server: Vec<usize>,
    /// Those of the generator and of the server behind a proxy.
    pub load: Vec<usize>,
}

impl Placement {
    /// Places servers of up to `loops_max` loops on `allowed` cores, or as wished.
    ///
    /// # Errors
    /// When a core was wished for that this process may not use.
    pub fn new(
        allowed: &[usize],
        server: Option<&CoreList>,
        load: Option<&CoreList>,
        loops_max: usize,
    ) -> Result<Self, String> {
        for wish in [server, load].into_iter().flatten() {
            if let Some(core) = wish.as_slice().iter().find(|core| !allowed.contains(core)) {
                return Err(format!(
                    "core {core} is not one this process may use; there are {}",
                    list(allowed)
                ));
            }
        }
        let loops_max = loops_max.clamp(1, allowed.len().max(1));
        let server = match (server, load) {
            (Some(wish), _) => wish.as_slice().to_vec(),
            (None, Some(load)) => {
                let free: Vec<usize> = allowed
                    .iter()
                    .copied()
                    .filter(|core| !load.contains(*core))
                    .collect();
                let from = if free.len() >= loops_max {
                    &free
                } else {
                    allowed
                };
                from[..loops_max.min(from.len())].to_vec()
            }
            (None, None) => allowed[..loops_max.min(allowed.len())].to_vec(),
        };
        let load = load.map_or_else(
            || {
                let free: Vec<usize> = allowed
                    .iter()
                    .copied()
                    .filter(|core| !server.contains(core))
                    .collect();
                if free.is_empty() {
                    allowed.to_vec()
                } else {
                    free
                }
            },
            |wish| wish.as_slice().to_vec(),
        );
        Ok(Self { server, load })
    }

    /// The cores of a server with so many loops; all, where it has more loops than there are cores.
    #[must_use]
    pub fn of_loops(&self, loops: usize) -> &[usize] {
        &self.server[..loops.min(self.server.len())]
    }

    /// Whether a core is in both.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.server.iter().any(|core| self.load.contains(core))
    }
}

/// Cores as they are typed.
#[must_use]
pub fn list(cores: &[usize]) -> String {
    let words: Vec<String> = cores.iter().map(usize::to_string).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(
        allowed: &[usize],
        server: &str,
        load: &str,
        loops: usize,
    ) -> (Vec<usize>, Vec<usize>) {
        let wish = |text: &str| (!text.is_empty()).then(|| text.parse::<CoreList>().unwrap());
        let (server, load) = (wish(server), wish(load));
        let placed = Placement::new(allowed, server.as_ref(), load.as_ref(), loops).unwrap();
        (placed.server, placed.load)
    }

    #[test]
    fn cores_are_apart_where_there_are_enough() {
        // Goal: own cores, wishes, and sharing as the last resort; by small machines.
        assert_eq!(place(&[0, 1, 2, 3], "", "", 2), (vec![0, 1], vec![2, 3]));
        assert_eq!(place(&[0, 1], "", "", 1), (vec![0], vec![1]));
        assert_eq!(place(&[0, 1], "", "", 2), (vec![0, 1], vec![0, 1]));
        assert_eq!(place(&[0, 1], "", "", 8), (vec![0, 1], vec![0, 1]));
        assert_eq!(place(&[3], "", "", 1), (vec![3], vec![3]));
        assert_eq!(place(&[0, 1, 2], "2", "", 1), (vec![2], vec![0, 1]));
        assert_eq!(place(&[0, 1, 2], "", "0", 2), (vec![1, 2], vec![0]));
        assert_eq!(place(&[0, 1], "", "0", 2), (vec![0, 1], vec![0]));
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        // Goal: the message names it; and more loops than cores have all cores.
        let wish: CoreList = "0,7".parse().unwrap();
        let error = Placement::new(&[0, 1], Some(&wish), None, 1).unwrap_err();
        assert!(error.contains("core 7") && error.contains("0,1"), "{error}");
        let placed = Placement::new(&[0, 1], None, None, 4).unwrap();
        assert_eq!(
            (placed.of_loops(1), placed.of_loops(4)),
            (&[0][..], &[0, 1][..])
        );
        assert!(placed.is_shared());
    }
}
