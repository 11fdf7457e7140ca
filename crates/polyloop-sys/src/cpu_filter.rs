//! A filter that gives each new connection to the loop of the core it arrived on.
//!
//! The one idea: for a group of sockets that share a port, the kernel may be given a program whose answer is the
//! index of the socket to use. Ours looks at the core that handles the packet, so that a connection's packets, its
//! socket and its loop stay in one core's cache.
//!
//! Deliberately absent: balance. How evenly connections arrive over the cores is the network card's doing; correction
//! at accept time is what levels it.

#![expect(
    unsafe_code,
    reason = "attaching a reuseport filter has no safe wrapper"
)]

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use crate::listener::Listener;

/// Lets the kernel choose a listener of a group by the core a connection arrives on. `listener` may be any of the
/// group, and stands for all; `cores_in_group_order[i]` is the core of the loop that accepts from listener `i`.
/// Connections that arrive on any other core are spread by its number. Attaching again replaces the filter.
///
/// # Errors
/// `InvalidInput` when there are no cores, too many for a program (over 2,000), or one is named twice, as the second
/// loop would never see a connection; `EINVAL` when `listener` is not in a group.
pub fn attach_cpu_filter(listener: &Listener, cores_in_group_order: &[usize]) -> io::Result<()> {
    let mut program = cpu_program(cores_in_group_order)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let attached = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option's value is one `sock_fprog` of the size given; `attached` and the `length` instructions it
    // points to (`program`) live until the call returns, and the kernel copies both before that.
    let status = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const attached).cast(),
            size_of_socklen::<libc::sock_fprog>(),
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The program, or `None` when the list of cores cannot make one.
///
/// For cores 0, 1, 2, … in order the core's number is the index already, and three instructions do. Any other list
/// becomes one comparison for each core, in order, with the number modulo the group's size for cores that are not in
/// it.
fn cpu_program(cores: &[usize]) -> Option<Vec<libc::sock_filter>> {
    let count = u32::try_from(cores.len())
        .ok()
        .filter(|count| (1..=CORES_MAX).contains(count))?;
    let mut program = vec![instruction(LOAD, 0, CPU_NUMBER)];
    let in_order = cores.iter().enumerate().all(|(index, &core)| index == core);
    if !in_order {
        let mut seen = std::collections::BTreeSet::new();
        for (index, &core) in (0u32..).zip(cores) {
            if !seen.insert(core) {
                return None;
            }
            // Equal: the next instruction, which answers. Otherwise: one further.
            program.push(instruction(JUMP_IF_EQUAL, 1, u32::try_from(core).ok()?));
            program.push(instruction(ANSWER_CONSTANT, 0, index));
        }
    }
    program.push(instruction(MODULO, 0, count));
    program.push(instruction(ANSWER_ACCUMULATOR, 0, 0));
    Some(program)
}

/// One instruction of classic BPF; `skip_if_false` is how many to leave out when a comparison does not hold.
fn instruction(code: u32, skip_if_false: u8, operand: u32) -> libc::sock_filter {
    // The codes below all fit: classic BPF has 16 bits for them.
    libc::sock_filter {
        code: (code & 0xffff) as u16,
        jt: 0,
        jf: skip_if_false,
        k: operand,
    }
}

fn size_of_socklen<T>() -> libc::socklen_t {
    // A few bytes always fit.
    mem::size_of::<T>() as libc::socklen_t
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANSWER_CONSTANT: u32 = libc::BPF_RET | libc::BPF_K;
const ANSWER_ACCUMULATOR: u32 = libc::BPF_RET | libc::BPF_A;

/// The place, outside any packet, where the kernel lets a program read the core it runs on.
const CPU_NUMBER: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned();

/// Two instructions a core and three more stay below the kernel's 4,096.
const CORES_MAX: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer on `cpu`: an interpreter of the five instructions used, which also proves that
    /// every path ends in an answer.
    fn run(program: &[libc::sock_filter], cpu: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) {
                LOAD => {
                    assert_eq!(step.k, CPU_NUMBER);
                    accumulator = cpu;
                }
                MODULO => accumulator %= step.k,
                JUMP_IF_EQUAL if accumulator == step.k => at += usize::from(step.jt),
                JUMP_IF_EQUAL => at += usize::from(step.jf),
                ANSWER_CONSTANT => return step.k,
                ANSWER_ACCUMULATOR => return accumulator,
                code => panic!("instruction {code:#x} is not one of ours"),
            }
        }
    }

    #[test]
    fn cores_in_order_need_three_instructions() {
        // Goal: the common case stays short and right. Method: run it on every core up to twice the group.
        for count in 1..=64 {
            let cores: Vec<usize> = (0..count).collect();
            let program = cpu_program(&cores).unwrap();
            assert_eq!(program.len(), 3);
            for cpu in 0..count * 2 {
                assert_eq!(run(&program, cpu as u32), (cpu % count) as u32);
            }
        }
    }

    #[test]
    fn any_list_finds_its_core() {
        // Goal: listener i gets core list[i], and no answer is outside the group. Method: odd lists, every core to 300.
        for cores in [
            vec![1, 0],
            vec![2, 4, 6],
            vec![255, 3, 0],
            vec![7],
            vec![0, 2],
            vec![1],
        ] {
            let program = cpu_program(&cores).unwrap();
            for cpu in 0..300 {
                let expected = cores
                    .iter()
                    .position(|&core| core == cpu)
                    .unwrap_or(cpu % cores.len());
                assert_eq!(
                    run(&program, cpu as u32) as usize,
                    expected,
                    "{cores:?} on {cpu}"
                );
            }
        }
    }

    #[test]
    fn lists_that_make_no_program_are_refused() {
        // Goal: neither a division by zero nor a loop without connections. Method: empty, doubled, longest and too
        // long.
        assert!(cpu_program(&[]).is_none());
        assert!(cpu_program(&[0, 1, 0]).is_none());
        assert!(cpu_program(&[5, 5]).is_none());
        let reversed: Vec<usize> = (0..CORES_MAX as usize).rev().collect();
        assert!(cpu_program(&reversed).unwrap().len() <= 4_096);
        assert!(cpu_program(&vec![0; CORES_MAX as usize + 1]).is_none());
    }
}
