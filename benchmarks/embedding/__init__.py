"""What secure sums cost inside other people's frameworks, beside the same without them."""
