//! What each backend of a group gets, where the records of a service may say otherwise at any time.
//!
//! The one idea: shares are replaced whole, with a number, by whoever learns of new ones, who also builds the tables; a loop
//! compares the number before it chooses, and takes the new ones over.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::Group;
use crate::balance::{Algorithm, Picker, SourceTable, Weight};

/// What each backend of a group gets, as loops build their pickers from it.
#[derive(Debug)]
pub struct Shares {
    pub(super) generation: u64,
    /// In the order of the backends.
    pub weights: Vec<Weight>,
    /// For the source hash.
    table: Option<SourceTable>,
}

impl Shares {
    pub(super) fn new(generation: u64, weights: Vec<Weight>, algorithm: Algorithm) -> Self {
        let table = (algorithm == Algorithm::SourceHash).then(|| SourceTable::build(&weights));
        Self {
            generation,
            weights,
            table,
        }
    }

    pub(super) fn tell(&self, picker: &mut Picker) {
        match &self.table {
            Some(table) => picker.set_source_table(table),
            None => {
                // What is past the bound of a group was refused with the settings.
                picker.set_backends(&self.weights);
            }
        }
    }
}

impl Group {
    /// What each backend gets.
    #[must_use]
    pub fn shares(&self) -> Arc<Shares> {
        Arc::clone(&self.shares.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what some backends get. It may build tables: not for a loop.
    pub(crate) fn set_shares(&self, change: impl FnOnce(&mut [Weight])) {
        let mut shares = self.shares.write().unwrap_or_else(PoisonError::into_inner);
        let mut weights = shares.weights.clone();
        change(&mut weights);
        if weights == shares.weights {
            return;
        }
        let generation = shares.generation + 1;
        *shares = Arc::new(Shares::new(generation, weights, self.algorithm));
        self.generation.store(generation, Relaxed);
    }
}
