"""Speed of training, evaluation and sampling."""
