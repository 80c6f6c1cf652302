"""Quality of a row: rules of form, rule scores, a judge, and the report of a run."""
