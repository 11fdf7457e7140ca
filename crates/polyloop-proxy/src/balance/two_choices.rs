//! The less loaded of two that are drawn at random by weight.
//!
//! One idea: drawing by weight in constant time (the alias method: M. D. Vose, "A linear algorithm for generating
//! random numbers with a given distribution", 1991), here in whole numbers. Every column is as wide as the sum of all
//! weights; it belongs to one backend up to its threshold, and to another from there on.
//!
//! Why two: the longest queue with two random choices grows as log log n instead of log n, and loops that know the
//! loads of a moment ago do not all run to the same least loaded backend.

use super::least::Least;
use super::random::SplitMix64;
use super::{Candidate, Member};

#[derive(Debug, Clone)]
pub(super) struct TwoChoices {
    columns: Vec<Column>,
    /// The sum of all weights: the width of a column.
    total: u32,
    /// For when hardly any can be used.
    least: Least,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: u32,
    below: u16,
    above: u16,
}

impl TwoChoices {
    pub(super) fn new(members: &[Member], loop_index: usize, loops: usize) -> Self {
        // 1024 weights of 16 bits: sums and products of count and weight stay below 2^26.
        let count = members.len() as u32;
        let total = members.iter().map(|member| u32::from(member.weight)).sum();
        let mut columns: Vec<Column> = members
            .iter()
            .map(|member| Column {
                threshold: u32::from(member.weight) * count,
                below: member.index,
                above: member.index,
            })
            .collect();
        let (mut narrow, mut wide): (Vec<usize>, Vec<usize>) =
            (0..columns.len()).partition(|&place| columns[place].threshold < total);
        // Each round fills one narrow column up from a wide one, which may become narrow by that.
        while let (Some(&filled), Some(&giver)) = (narrow.last(), wide.last()) {
            narrow.pop();
            columns[filled].above = columns[giver].below;
            columns[giver].threshold -= total - columns[filled].threshold;
            if columns[giver].threshold < total {
                wide.pop();
                narrow.push(giver);
            }
        }
        // The areas add up exactly, so what is left is exactly full.
        debug_assert!(wide.iter().all(|&place| columns[place].threshold == total));
        debug_assert!(narrow.is_empty());
        Self {
            columns,
            total,
            least: Least::new(members, loop_index, loops),
        }
    }

    #[inline]
    pub(super) fn pick(
        &mut self,
        random: &mut SplitMix64,
        usable: &impl Fn(u16) -> Option<Candidate>,
    ) -> Option<u16> {
        // Of two, both are looked at anyway.
        if self.columns.len() <= 2 {
            return self.least.pick(usable);
        }
        let mut first: Option<(u16, Candidate)> = None;
        for _ in 0..DRAWS_MAX {
            let index = self.draw(random);
            if first.is_some_and(|(first, _)| first == index) {
                continue;
            }
            match (first, usable(index)) {
                (_, None) => {}
                (None, Some(candidate)) => first = Some((index, candidate)),
                (Some((first, load)), Some(candidate)) => {
                    let second_is_less = candidate.is_less_loaded_than(load);
                    return Some(if second_is_less { index } else { first });
                }
            }
        }
        first.map_or_else(|| self.least.pick(usable), |(index, _)| Some(index))
    }

    #[inline]
    fn draw(&self, random: &mut SplitMix64) -> u16 {
        // Both are below a bound that fits the smaller type.
        let column = &self.columns[random.below(self.columns.len() as u64) as usize];
        if random.below(u64::from(self.total)) < u64::from(column.threshold) {
            column.below
        } else {
            column.above
        }
    }
}

/// Draws until two different backends that can be used were found. With half of a group down, a second is missed once
/// in 28 choices and both once in 256.
const DRAWS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_hold_each_weight_exactly(weights in prop::collection::vec(1_u16..=300, 1..40)) {
            // Goal: the table draws each backend exactly by its weight. Method: its areas are added up.
            let members: Vec<Member> = (0_u16..)
                .zip(&weights)
                .map(|(index, &weight)| Member { index, weight, identity: 0 })
                .collect();
            let table = TwoChoices::new(&members, 0, 1);
            let mut areas = vec![0; weights.len()];
            for column in &table.columns {
                areas[usize::from(column.below)] += column.threshold;
                areas[usize::from(column.above)] += table.total - column.threshold;
            }
            for (area, weight) in areas.into_iter().zip(&weights) {
                prop_assert_eq!(area, u32::from(*weight) * weights.len() as u32);
            }
        }
    }
}
