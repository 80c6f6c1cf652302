"""Scores rows with a causal language model: `python -m workers.recipes.score job.json`.

perplexity = exp(mean cross-entropy in nats of the answer's tokens, with its prompt)
ifd        = perplexity / perplexity of the answer alone: Instruction-Following Difficulty (Li et al. 2024, "From
             Quantity to Quality", section 2; a ratio of perplexities as in Superfiltering, Li et al. 2024). Above
             1 the instruction does not help at all. Below 1, a higher value means a harder instruction.

Prompts are rendered as in training (chat_dataset). Of a dialogue the last answer is scored. The answer alone follows
the tokenizer's first token, or its end token if it has none, so that the first token of the answer is predicted, too.
Events on stdout: stage, base_model, progress (step, total_steps: rows), scores (a list of {id, perplexity, ifd, tokens,
truncated}, with nulls and a reason if a row can't be scored), done. The scoring is in score_rows.py; process.py defines
the exit status.
"""

import sys

from app.training_jobs.jobs import ScoreJob
from workers.recipes.process import start_recipe

if __name__ == "__main__":
    sys.exit(start_recipe(sys.argv[1:], ScoreJob, "workers.recipes.score_rows"))
