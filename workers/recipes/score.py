"""Scores of rows by a causal language model: `python -m workers.recipes.score job.json`.

perplexity = exp(mean nats of the answer's tokens, given its prompt)
ifd        = perplexity / perplexity of the answer alone: Instruction-Following Difficulty (Li et al. 2024, "From
             Quantity to Quality", section 2; a ratio of perplexities as in Superfiltering, Li et al. 2024). Over 1
             the instruction does not help at all; the higher below 1, the harder it is to follow.

Prompts are rendered as in training (chat_dataset); of a dialogue the last answer counts. The answer alone follows
the tokenizer's first token, or its end token where it has none, so that its own first token is predicted, too.
Events on stdout: stage, base_model, progress (done, rows), scores (a list of {id, perplexity, ifd, tokens, truncated}
with nulls and a reason where there is nothing to score), done. The scoring itself is score_rows.py; process.py has
the exit status.
"""

import sys

from app.training_jobs.jobs import ScoreJob
from workers.recipes.process import start_recipe

if __name__ == "__main__":
    sys.exit(start_recipe(sys.argv[1:], ScoreJob, "workers.recipes.score_rows"))
