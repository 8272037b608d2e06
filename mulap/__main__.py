"""`python -m mulap` and `torchrun -m mulap`."""

from mulap.cli import main

if __name__ == "__main__":
    main(prog_name="mulap")
