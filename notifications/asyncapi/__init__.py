"""The AsyncAPI document: every way in which events leave, made from the models of the messages."""
