"""Input that nobody meant, made at random: it ends in a value or in one `UserError`, soon, and in little memory.

inputs: what is made and read, one function for each kind of input.  campaign: many of them, and the results as a file.
"""
