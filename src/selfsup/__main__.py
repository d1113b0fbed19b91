"""`python -m selfsup`, which is also how `torchrun -m selfsup` starts."""

from selfsup.cli.app import main

if __name__ == "__main__":
    raise SystemExit(main())
