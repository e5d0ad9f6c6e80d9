//! Measuring: CPU time of this thread, as the kernel tells it; rounds of all points of a curve in turn, so that a machine that is slow for a
//! while is slow for all of them.

use std::hint::black_box;

const ROUNDS: usize = 11;
/// How long a round takes, in nanoseconds of CPU.
const ROUND: u64 = 5_000_000;

/// One thing that is measured. Whatever it returns cannot be optimised away.
pub type Step<'a> = Box<dyn FnMut() + 'a>;

pub fn step<'a, T>(name: impl Into<String>, mut work: impl FnMut() -> T + 'a) -> (String, Step<'a>) {
    (
        name.into(),
        Box::new(move || {
            black_box(work());
        }),
    )
}

/// Prints the median time of each, and its ratio to the first: the median of ratios of the same round.
pub fn curve(title: &str, mut points: Vec<(String, Step<'_>)>) {
    let counts: Vec<u64> = points.iter_mut().map(|(_, step)| count(step)).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); points.len()];
    for _ in 0..ROUNDS {
        for (((_, step), count), times) in points.iter_mut().zip(&counts).zip(&mut times) {
            times.push(round(step, *count));
        }
    }
    println!("{title}");
    for ((name, _), own) in points.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, first)| own / first).collect();
        println!("    {name:<44} {:>9.0} ns {:>7.2} x", median(own.clone()), median(ratios));
    }
}

/// How often it fits into a round.
fn count(step: &mut Step<'_>) -> u64 {
    let mut count = 1;
    while round(step, count) * (count as f64) < ROUND as f64 / 2.0 {
        count *= 2;
    }
    count
}

/// Nanoseconds each.
fn round(step: &mut Step<'_>, count: u64) -> f64 {
    let began = own_cpu();
    for _ in 0..count {
        step();
    }
    (own_cpu() - began) as f64 / count as f64
}

/// The first number of `schedstat` (proc(5)). Giving way first has the scheduler write down what is used.
fn own_cpu() -> u64 {
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux's /proc");
    told.split(' ').next().expect("three numbers").parse().expect("a number")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
