//! What a doubt says to an operator.
//!
//! The one idea: the text holds the figures, the advice holds something that can be typed or done.

use super::Doubt;
use crate::output::units::{count, duration_us, or_dash, percent};

impl Doubt {
    /// What is wrong, with figures.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::GeneratorSaturated { busy_share } => {
                let share = percent(*busy_share);
                format!("the busiest loop of the generator was at work for {share} of its time")
            }
            Self::ScheduleSlipped { sent, offered } => {
                let share = share(*sent, *offered);
                let (sent, offered) = (count(*sent), count(*offered));
                format!("{sent} of {offered} planned requests were sent ({share})")
            }
            Self::LateSends {
                own_lag_p99_ns,
                latency_p99_ns,
            } => late_sends(*own_lag_p99_ns, *latency_p99_ns),
            Self::FewerConnections {
                asked,
                open,
                reasons,
            } => fewer_connections(*asked, *open, reasons),
            Self::TooFewSamples {
                quantile,
                have,
                need,
            } => {
                let (name, have, need) = (quantile_name(*quantile), count(*have), count(*need));
                format!("{name} is not told: it takes {need} samples, and there were {have}")
            }
            Self::Steal { share } => {
                format!(
                    "the hypervisor gave {} of the processors' time to others",
                    percent(*share)
                )
            }
            Self::Retransmits { count } => retransmits(*count),
            Self::FirstRunOutlier { ratio } => {
                format!("the first run came to {ratio:.2} times the median of the others")
            }
            Self::UnstableWindows { variation } => {
                format!(
                    "the rate varied by {} from window to window",
                    percent(*variation)
                )
            }
            Self::NeverSteady { seconds, variation } => never_steady(*seconds, *variation),
            Self::SharedCores { cores } => {
                let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
                format!(
                    "generator and server may both run on core {}",
                    cores.join(", ")
                )
            }
            Self::PacedCongestion { name } => {
                format!("the connections use {name}, which paces what is sent, even on loopback")
            }
            Self::Unanswered { count: unanswered } => {
                let count = count(*unanswered);
                format!(
                    "{count} requests were not answered in time; they count with the age they had"
                )
            }
            Self::Faults { total, sent } => {
                let (share, total, sent) = (share(*total, *sent), count(*total), count(*sent));
                format!("{total} faults in {sent} requests sent ({share})")
            }
            Self::Interrupted => "the run was interrupted: it is shorter than asked for".to_owned(),
            Self::OutputLost { path, reason } => format!("{path} is incomplete: {reason}"),
        }
    }

    /// The way out.
    #[must_use]
    pub fn advice(&self) -> String {
        let advice = match self {
            Self::GeneratorSaturated { .. } => {
                "give the generator more loops and cores of its own (--cores), or plan a lower --rate"
            }
            Self::ScheduleSlipped { .. } => {
                "believe the rate that was sent, not the one planned; give it more --connections if all of them were \
                 waiting for answers, or plan a lower --rate"
            }
            Self::LateSends { .. } => {
                "give the generator cores of its own (--cores) or plan a lower --rate; the true latency is shorter \
                 than told"
            }
            Self::FewerConnections { reasons, .. } => return way_to_more_connections(reasons),
            Self::TooFewSamples { .. } => "run longer, or plan a higher --rate",
            Self::Steal { .. } => {
                "measure again when the host is quieter, and compare several runs rather than two"
            }
            Self::Retransmits { .. } => {
                "see where they are lost: the second column of /proc/net/softnet_stat grows where the kernel's own queue is too short \
                 (net.core.netdev_max_backlog), which happens on loopback too; more --connections or a lower --rate make smaller bursts"
            }
            Self::FirstRunOutlier { .. } => {
                "warm up longer, and leave the first run out when runs are compared"
            }
            Self::UnstableWindows { .. } => {
                "look at the windows (--csv) for what changed, warm up longer, or run longer"
            }
            Self::NeverSteady { .. } => {
                "give it longer (--warm-up-max), or look for what changes; --live shows the rate while it runs"
            }
            Self::SharedCores { .. } => {
                "pin both to different cores (--cores here, taskset for the server), or read the figures as those of \
                 the two together"
            }
            Self::PacedCongestion { .. } => {
                "say --congestion cubic here, and set net.ipv4.tcp_congestion_control for the server"
            }
            Self::Unanswered { .. } => {
                "see the faults for the reason; where there is none, the server needed longer than the deadline"
            }
            Self::Faults { .. } => "see the table of faults: each is explained there",
            Self::Interrupted => {
                "read the figures as those of the time that it ran, and do not compare them with a whole run"
            }
            Self::OutputLost { .. } => "make room or choose another place, and run again",
        };
        advice.to_owned()
    }
}

fn never_steady(seconds: f64, variation: Option<f64>) -> String {
    let how = variation.map_or_else(
        || "nothing had been done for three windows".to_owned(),
        |variation| format!("the rate still varied by {}", percent(variation)),
    );
    format!("when the warm-up had taken {seconds:.1} s, {how}")
}

fn retransmits(segments: u64) -> String {
    format!(
        "{} segments were lost and sent again in this network namespace; each holds its connection up for 200 ms or more",
        count(segments)
    )
}

fn late_sends(own_lag_p99_ns: u64, latency_p99_ns: u64) -> String {
    let lag = duration_us(own_lag_p99_ns as f64 / 1e3);
    let latency = duration_us(latency_p99_ns as f64 / 1e3);
    format!("the generator sent late: p99 {lag}, where the p99 of the latency is {latency}")
}

fn fewer_connections(asked: u64, open: u64, reasons: &[(String, u64)]) -> String {
    let mut text = format!("{} of {} connections were open", count(open), count(asked));
    for (index, (key, times)) in reasons.iter().enumerate() {
        text += if index == 0 { ": " } else { ", " };
        text += &format!("{key} ({})", count(*times));
    }
    text
}

/// The most frequent reason decides: the others often follow from it.
fn way_to_more_connections(reasons: &[(String, u64)]) -> String {
    match reasons.iter().max_by_key(|(_, times)| *times) {
        Some((key, _)) => format!("{key}: {}", crate::result::explain_fault(key)),
        None => {
            "connect more slowly or wait longer (--ramp-rate, --timeout), and see whether the server limits its connections"
                .to_owned()
        }
    }
}

/// `p99.9`.
pub(super) fn quantile_name(quantile: f64) -> String {
    // `0.999 * 100.0` is not exactly 99.9.
    format!("p{}", (quantile * 1e8).round() / 1e6)
}

fn share(part: u64, whole: u64) -> String {
    or_dash((whole > 0).then(|| part as f64 / whole as f64), percent)
}
