"""`python -m cascade_router`."""

from cascade_router.main import main

main()
