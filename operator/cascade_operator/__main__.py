"""`python -m cascade_operator` is the command `cascade-operator`."""

from cascade_operator.main import main

if __name__ == "__main__":
    main()
