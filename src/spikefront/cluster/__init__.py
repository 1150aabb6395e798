"""Engines that others wrote, and what is asked of them: the job we are, the queue, submission, actors."""
