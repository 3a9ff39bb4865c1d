"""The peer of a submission over HTTP: the settings that `startproject` writes, one model, one view
of Django REST framework that inserts a row.
"""
