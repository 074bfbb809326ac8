"""What an adversary gets out of what it saw: by which attack, beside what anybody can guess."""
