//! Shares one decode step among the calls.
//!
//! A step costs about as much as it has tokens, and nobody hears anything before it ends. So
//! every call that is being answered gets its one token in every step, and prompts are read in
//! portions small enough not to be heard as a stutter.

/// What one call wants of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The next token of its reply.
    Decode,
    /// To have this many more tokens of its prompt read.
    Prefill {
        /// Tokens not read yet, at least one.
        tokens: usize,
        /// Nobody waits for it: work done ahead.
        ahead: bool,
    },
}

/// How large a step may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepSize {
    /// Prompt tokens while no reply is being generated. Also bounds how long a cancelled
    /// request goes on.
    pub(crate) alone: usize,
    /// Prompt tokens beside replies that are being generated.
    pub(crate) beside_replies: usize,
}

/// What a prompt read ahead gets in a step at least, so that it is not starved.
const LEAST_AHEAD: usize = 4;

/// How many tokens each call gets in this step, in the order of `wants`.
pub(crate) fn share(wants: &[Want], size: StepSize) -> Vec<usize> {
    let replying = wants.contains(&Want::Decode);
    let budget = if replying {
        size.beside_replies
    } else {
        size.alone
    };
    let waiting = portion(wants, false);
    let ahead = portion(wants, true);
    let reserve = LEAST_AHEAD
        .min(budget / 2)
        .min(ahead.iter().map(|&(_, tokens)| tokens).sum());
    let mut shares: Vec<usize> = wants
        .iter()
        .map(|want| usize::from(*want == Want::Decode))
        .collect();
    let used = pour(&waiting, budget - reserve, &mut shares);
    pour(&ahead, budget - used, &mut shares);
    shares
}

fn portion(wants: &[Want], of_ahead: bool) -> Vec<(usize, usize)> {
    let mut portion: Vec<(usize, usize)> = wants
        .iter()
        .enumerate()
        .filter_map(|(at, want)| match *want {
            Want::Prefill { tokens, ahead } if ahead == of_ahead => Some((at, tokens)),
            Want::Prefill { .. } | Want::Decode => None,
        })
        .collect();
    // The smallest first: what it leaves of its equal share goes to the others.
    portion.sort_by_key(|&(_, tokens)| tokens);
    portion
}

/// Gives everybody an equal share of `budget`, or all that they want; returns what was given.
fn pour(portion: &[(usize, usize)], budget: usize, shares: &mut [usize]) -> usize {
    let mut left = budget;
    for (served, &(at, tokens)) in portion.iter().enumerate() {
        let equal = left.div_ceil(portion.len() - served);
        shares[at] = tokens.min(equal);
        left -= shares[at];
    }
    budget - left
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: StepSize = StepSize {
        alone: 64,
        beside_replies: 16,
    };

    fn waiting(tokens: usize) -> Want {
        Want::Prefill {
            tokens,
            ahead: false,
        }
    }

    fn ahead(tokens: usize) -> Want {
        Want::Prefill {
            tokens,
            ahead: true,
        }
    }

    #[test]
    fn everybody_being_answered_gets_one_token() {
        assert_eq!(share(&[Want::Decode; 5], SIZE), [1; 5]);
        assert!(share(&[], SIZE).is_empty());
    }

    #[test]
    fn a_long_prompt_is_read_in_portions_and_smaller_ones_beside_replies() {
        assert_eq!(share(&[waiting(500)], SIZE), [64]);
        assert_eq!(share(&[Want::Decode, waiting(500)], SIZE), [1, 16]);
        assert_eq!(share(&[waiting(3)], SIZE), [3]);
    }

    #[test]
    fn a_short_prompt_is_not_held_up_by_a_long_one() {
        assert_eq!(share(&[waiting(500), waiting(20)], SIZE), [44, 20]);
        assert_eq!(share(&[waiting(500), waiting(500)], SIZE), [32, 32]);
    }

    #[test]
    fn callers_who_wait_go_before_work_done_ahead_which_still_moves() {
        assert_eq!(share(&[ahead(500), waiting(500)], SIZE), [4, 60]);
        assert_eq!(share(&[ahead(500), waiting(20)], SIZE), [44, 20]);
        assert_eq!(
            share(&[ahead(1), waiting(500), Want::Decode], SIZE),
            [1, 15, 1]
        );
    }

    #[test]
    fn no_step_exceeds_its_size() {
        for count in 1..40 {
            let wants: Vec<Want> = (0..count)
                .map(|n| {
                    if n % 3 == 0 {
                        ahead(n + 1)
                    } else {
                        waiting(n * 7)
                    }
                })
                .collect();
            assert!(
                share(&wants, SIZE).iter().sum::<usize>() <= SIZE.alone,
                "{count} prompts"
            );
        }
    }
}
