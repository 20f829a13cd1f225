"""cli.demo"""
