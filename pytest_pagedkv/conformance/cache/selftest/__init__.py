"""The suite tested on itself: a correct cache, and faults planted into it that the suite has to see."""
